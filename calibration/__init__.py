"""From raw to true: unit profiles and their models. May import logbook and drivers."""
