"""`python -m samgap.report`: write one page with every sweep below `root` and the results of samgap itself."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from samgap import cli, naming
from samgap.files import replace_text
from samgap.report import collected, page

naming.register()


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="report")
def main(config: DictConfig) -> None:
    """Write root/report/index.html from the records below `root`."""
    with cli.sentences():
        write(Path(naming.plain(config, "root")["root"]))


def write(root: Path) -> None:
    """Write the page and print a summary."""
    results = collected.collect(root)
    path = root / "report" / "index.html"
    replace_text(path, page.render(results, path.parent))
    own_count = sum(study.own for study in results.studies)
    print(f"{own_count} sweeps of {root}, {len(results.studies) - own_count} results that came with samgap\n{path}")


if __name__ == "__main__":
    cli.command(main)
