"""`python -m hub.production`: the commands of hub/production/tool.py."""

from hub.production.tool import app

app(prog_name="python -m hub.production")
