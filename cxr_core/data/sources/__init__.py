"""Sources of images: a word, a folder or an archive becomes a folder of files, and its layout tells what each file is.

fetch.py      brings a source onto this disk: kaggle.py, synthetic.py, folders, archives
layouts.py    recognises the layout of a folder: its splits, classes and patients
nih.py        reads NIH's table of findings
"""

from cxr_core.data.sources.fetch import SOURCES, SourceFolder, fetch
from cxr_core.data.sources.layouts import ImageFile, ImageListing, list_images

__all__ = ["SOURCES", "ImageFile", "ImageListing", "SourceFolder", "fetch", "list_images"]
