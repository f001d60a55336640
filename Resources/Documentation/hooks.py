"""For mkdocs: pages may show the pictures of Resources/Screenshots, and may link files of the repository."""

import os
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "Resources" / "Screenshots"
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")


def on_files(files, config):
    """Add the pictures to the site, in its folder Screenshots."""
    for picture in sorted(PICTURES.glob("*.png")):
        files.append(File.generated(config, f"Screenshots/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Point links that leave the documentation to those pictures, or to the file in the repository."""
    here, docs = Path(page.file.abs_src_path).parent, Path(config.docs_dir)

    def changed(link):
        target = (here / link[2]).resolve()
        if target.is_relative_to(docs) or not target.exists():
            return link[0]  # within the site; mkdocs warns of what is not there
        if target.parent == PICTURES:
            place = Path(os.path.relpath(docs / "Screenshots" / target.name, here)).as_posix()
        else:
            kind = "tree" if target.is_dir() else "blob"
            place = f"{config.repo_url.rstrip('/')}/{kind}/main/{target.relative_to(ROOT).as_posix()}"
        return f"{link[1]}{place}{link[3] or ''}{link[4]}"

    return LINK.sub(changed, markdown)
