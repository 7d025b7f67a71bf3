from hypothesis import settings

# Times decide no test here: on a busy machine one example may take a second.
settings.register_profile("cruisers", deadline=None)
settings.load_profile("cruisers")
