"""The technician's tools. May import firmware, gateway, sox, hub."""
