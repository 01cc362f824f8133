"""Our launchers, in hydra_plugins, where Hydra looks for plugins; see jobs.py."""
