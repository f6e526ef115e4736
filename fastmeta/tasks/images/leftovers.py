"""What lies among images and is none of the user's: hidden things, and what notebooks, archives and systems leave."""

FOLDERS = ("__macosx", "__pycache__", "@eadir", "lost+found", "$recycle.bin", "system volume information")
FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name is no image or class."""
    return name.startswith(".") or name.lower() in (*FOLDERS, *FILES)
