"""A grid of thumbnails: click one to open it, or, while choosing, to choose it. All of it works by keyboard too."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import streamlit as st

_CSS = """
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(9.5rem, 44%), 1fr)); gap: .75rem; padding: 2px; }
button {
  all: unset; box-sizing: border-box; cursor: pointer; display: flex; flex-direction: column; overflow: hidden;
  position: relative; border: 1px solid var(--st-border-color); border-radius: var(--st-base-radius);
  background: var(--st-secondary-background-color); color: var(--st-text-color); font-family: var(--st-font);
  transition: transform .12s ease, border-color .12s ease;
}
button:hover { border-color: var(--st-primary-color); transform: translateY(-2px); }
button:focus-visible { outline: 3px solid var(--st-primary-color); outline-offset: 1px; }
button.excluded img { opacity: .35; filter: grayscale(1); }
button[aria-pressed=true] { outline: 3px solid var(--st-primary-color); outline-offset: -1px; }
.tick {
  position: absolute; top: .45rem; right: .45rem; width: 1.4rem; height: 1.4rem; border-radius: 50%; display: none;
  align-items: center; justify-content: center; font-size: .95rem; font-weight: 700; line-height: 1;
  border: 2px solid #fff; background: rgba(0, 0, 0, .45); color: transparent;
}
.choosing .tick { display: flex; }
button[aria-pressed=true] .tick { background: var(--st-primary-color); color: #fff; }
img { width: 100%; aspect-ratio: 1; object-fit: cover; background: #000; display: block; }
.words { padding: .4rem .55rem .5rem; min-width: 0; }
.title { font-size: .82rem; font-weight: 600; line-height: 1.25; display: flex; align-items: baseline; gap: .4rem; }
.mark { width: .62rem; height: .62rem; border-radius: 50%; flex: none; }
.detail, .file, .note { font-size: .74rem; line-height: 1.3; opacity: .75; overflow-wrap: anywhere; }
.note { opacity: 1; font-weight: 600; color: var(--st-primary-color); }
@media (prefers-reduced-motion: reduce) { button { transition: none; } }
"""

# Arrow keys go from tile to tile.
# Tiles are built again only when they differ, so that a click neither flickers nor loses the keyboard's place.
_JS = """
export default function ({ parentElement, data, setTriggerValue, setStateValue }) {
  const grid = parentElement.querySelector(".grid")
  const made = JSON.stringify(data)
  if (grid.dataset.made === made) return
  grid.dataset.made = made
  grid.classList.toggle("choosing", data.choosing)
  const chosen = new Set(data.chosen)
  const columns = () => getComputedStyle(grid).gridTemplateColumns.split(" ").length
  const part = (kind, name, text) => {
    const element = document.createElement(kind)
    element.className = name
    if (text) element.textContent = text
    return element
  }
  grid.replaceChildren(...data.tiles.map((tile) => {
    const button = part("button", tile.excluded ? "excluded" : "")
    button.type = "button"
    button.title = tile.id
    const open = () => setTriggerValue("opened", tile.id)
    const show = () => data.choosing && button.setAttribute("aria-pressed", chosen.has(tile.id))
    show()
    button.setAttribute("aria-label", `${tile.title}, ${tile.detail}, ${tile.file}. ${tile.note} ${
      data.choosing ? "Choose it; double click or O opens the large view." : "Open the large view."}`)
    button.onclick = () => {
      if (!data.choosing) return open()
      chosen.has(tile.id) ? chosen.delete(tile.id) : chosen.add(tile.id)
      show()
      setStateValue("chosen", [...chosen])
    }
    button.ondblclick = () => data.choosing && open()
    button.onkeydown = (event) => {
      if (event.key === "o") return open()
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns() }[event.key]
      const next = step && grid.children[[...grid.children].indexOf(button) + step]
      if (next) { event.preventDefault(); next.focus() }
    }
    const picture = part("img", "")
    picture.src = tile.picture
    picture.alt = ""
    const mark = part("span", "mark")
    mark.style.background = tile.colour
    const title = part("div", "title")
    title.append(mark, part("span", "", tile.title))
    const words = part("div", "words")
    words.append(title, part("div", "detail", tile.detail), part("div", "file", tile.file))
    if (tile.note) words.append(part("div", "note", tile.note))
    button.append(picture, part("span", "tick", "✓"), words)
    return button
  }))
}
"""

_GRID = st.components.v2.component("cxr_gallery", html='<div class="grid" role="list"></div>', css=_CSS, js=_JS)


@dataclass(frozen=True)
class Tile:
    """One thumbnail: `picture` is an address, `colour` marks the class that `title` names, `note` what was decided.

    `file` is what to call the image in a few words: the telling end of its name.
    """

    id: str
    picture: str
    title: str
    detail: str
    file: str
    colour: str
    note: str = ""
    excluded: bool = False


@dataclass(frozen=True)
class Picked:
    """`opened`: the id that was just clicked to be seen large, if any. `chosen`: the ids that are ticked."""

    opened: str | None
    chosen: tuple[str, ...]


def gallery(tiles: Sequence[Tile], *, key: str, choosing: bool = False, chosen: Sequence[str] = ()) -> Picked:
    """Show the tiles.

    Args:
        choosing: a click ticks a tile instead of opening it.
        chosen: the ids that are ticked when the tiles are first shown under this key.
    """
    state = _GRID(
        data={"tiles": [asdict(tile) for tile in tiles], "choosing": choosing, "chosen": list(chosen)},
        key=key,
        default={"chosen": list(chosen)},
        on_opened_change=lambda: None,
        on_chosen_change=lambda: None,
    )
    shown = {tile.id for tile in tiles}
    return Picked(
        state.opened, tuple(tile_id for tile_id in state.chosen or () if tile_id in shown) if choosing else ()
    )
