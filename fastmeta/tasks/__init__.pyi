from fastmeta.tasks.attributes import AttributeClasses
from fastmeta.tasks.episode import Batch, TaskSource
from fastmeta.tasks.grouped import GroupedTasks, from_groups
from fastmeta.tasks.images.folders import list_images
from fastmeta.tasks.images.images import Images
from fastmeta.tasks.images.pictures import Pictures
from fastmeta.tasks.images.pixels import read_images
from fastmeta.tasks.labelled import LabelledTasks, from_arrays
from fastmeta.tasks.omniglot.omniglot import Omniglot
from fastmeta.tasks.sinusoid import Sinusoid
from fastmeta.tasks.text import hashed_text
from fastmeta.tasks.watch import Watch

__all__ = [
    "AttributeClasses",
    "Batch",
    "GroupedTasks",
    "Images",
    "LabelledTasks",
    "Omniglot",
    "Pictures",
    "Sinusoid",
    "TaskSource",
    "Watch",
    "from_arrays",
    "from_groups",
    "hashed_text",
    "list_images",
    "read_images",
]
