"""Images from the clipboard: what is pasted anywhere on a page goes to its file uploader, as if it had been dropped there."""

import streamlit as st

_JS = """
export default function ({ parentElement }) {
  const mark = parentElement.querySelector("span")
  if (mark.dataset.pasting) return
  mark.dataset.pasting = "yes"
  const paste = (event) => {
    const files = [...(event.clipboardData?.files ?? [])]
    const input = document.querySelector('[data-testid="stFileUploader"] input[type="file"]')
    if (!files.length || !input) return
    const held = new DataTransfer()
    files.forEach((file) => held.items.add(file))
    input.files = held.files
    input.dispatchEvent(new Event("change", { bubbles: true }))
  }
  document.addEventListener("paste", paste)
  return () => document.removeEventListener("paste", paste)
}
"""

_PASTE = st.components.v2.component("cxr_paste", html="<span></span>", js=_JS)


def to_uploader() -> None:
    """Let this page take images from the clipboard."""
    _PASTE(key="paste", height=1)
