"""A grid of thumbnails: click one, or walk with Tab and press Enter, and the page learns which."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import streamlit as st

_CSS = """
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(9.5rem, 44%), 1fr)); gap: .75rem; padding: 2px; }
button {
  all: unset; box-sizing: border-box; cursor: pointer; display: flex; flex-direction: column; overflow: hidden;
  border: 1px solid var(--st-border-color); border-radius: var(--st-base-radius);
  background: var(--st-secondary-background-color); color: var(--st-text-color); font-family: var(--st-font);
  transition: transform .12s ease, border-color .12s ease;
}
button:hover { border-color: var(--st-primary-color); transform: translateY(-2px); }
button:focus-visible { outline: 3px solid var(--st-primary-color); outline-offset: 1px; }
img { width: 100%; aspect-ratio: 1; object-fit: cover; background: #000; display: block; }
.words { padding: .4rem .55rem .5rem; min-width: 0; }
.title { font-size: .86rem; font-weight: 600; display: flex; align-items: center; gap: .4rem; }
.mark { width: .62rem; height: .62rem; border-radius: 50%; flex: none; }
.detail { font-size: .74rem; opacity: .75; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
@media (prefers-reduced-motion: reduce) { button { transition: none; } }
"""

_JS = """
export default function ({ parentElement, data, setTriggerValue }) {
  const grid = parentElement.querySelector(".grid")
  grid.replaceChildren(...data.tiles.map((tile) => {
    const button = document.createElement("button")
    button.type = "button"
    button.title = tile.id
    button.setAttribute("aria-label", `${tile.title}, ${tile.detail}. Open the large view.`)
    button.onclick = () => setTriggerValue("picked", tile.id)
    const picture = document.createElement("img")
    picture.src = tile.picture
    picture.alt = ""
    const words = document.createElement("div")
    words.className = "words"
    const title = document.createElement("div")
    title.className = "title"
    const mark = document.createElement("span")
    mark.className = "mark"
    mark.style.background = tile.colour
    const text = document.createElement("span")
    text.textContent = tile.title
    title.append(mark, text)
    const detail = document.createElement("div")
    detail.className = "detail"
    detail.textContent = tile.detail
    words.append(title, detail)
    button.append(picture, words)
    return button
  }))
}
"""

_GRID = st.components.v2.component("cxr_gallery", html='<div class="grid" role="list"></div>', css=_CSS, js=_JS)


@dataclass(frozen=True)
class Tile:
    """One thumbnail: `picture` is a data address, `colour` marks the class that `title` names."""

    id: str
    picture: str
    title: str
    detail: str
    colour: str


def gallery(tiles: Sequence[Tile], *, key: str) -> str | None:
    """Show the tiles and return the id of the one that was just clicked, if any."""
    return _GRID(data={"tiles": [asdict(tile) for tile in tiles]}, key=key, on_picked_change=lambda: None).picked
