"""Few-shot tasks: episodes drawn as a pure function of (seed, step). Importing it imports NumPy only."""

from fastmeta.late import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "fastmeta.tasks.attributes": ("AttributeClasses",),
        "fastmeta.tasks.episode": ("Batch", "TaskSource"),
        "fastmeta.tasks.grouped": ("GroupedTasks", "from_groups"),
        "fastmeta.tasks.images.images": ("Images",),
        "fastmeta.tasks.images.pixels": ("read_images",),
        "fastmeta.tasks.labelled": ("LabelledTasks", "from_arrays"),
        "fastmeta.tasks.omniglot.omniglot": ("Omniglot",),
        "fastmeta.tasks.sinusoid": ("Sinusoid",),
        "fastmeta.tasks.watch": ("Watch",),
    },
)
