"""Our sweeper, in hydra_plugins, where Hydra looks for plugins; see sweeper.py."""
