"""The SoX hub: ejabberd's configuration, accounts, nodes and their rights, start and stop. May import sox."""
