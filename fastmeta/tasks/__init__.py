"""Few-shot tasks: episodes drawn as a pure function of (seed, step). Importing it imports NumPy only."""

from fastmeta.tasks.attributes import AttributeClasses
from fastmeta.tasks.episode import Batch, TaskSource
from fastmeta.tasks.labelled import LabelledTasks, from_arrays
from fastmeta.tasks.omniglot import Omniglot
from fastmeta.tasks.sinusoid import Sinusoid

__all__ = ["AttributeClasses", "Batch", "LabelledTasks", "Omniglot", "Sinusoid", "TaskSource", "from_arrays"]
