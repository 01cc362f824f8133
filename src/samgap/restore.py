"""`python -m samgap.restore figure=fig7/paper_three`: writes the records of a result that came with samgap.

A sweep of the same figure then skips these runs, so that a study from another machine can be continued here.
"""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from samgap import cli, naming
from samgap.figures import archive

naming.register()


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="restore")
def main(config: DictConfig) -> None:
    """Write the records that `root` lacks, marked as restored."""
    with cli.sentences():
        place = naming.plain(config, "root", "name", "scale")
        root = Path(place["root"])
        sweep, written = archive.restore(archive.REFERENCE / place["name"] / place["scale"], root)
        total = len(sweep.unique())
        print(f"{sweep}: {written} of {total} runs were written into {root}.")


if __name__ == "__main__":
    cli.command(main)
