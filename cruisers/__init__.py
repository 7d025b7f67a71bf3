"""The command `cruisers`: joins the sub-commands that live in their rooms; nothing else."""
