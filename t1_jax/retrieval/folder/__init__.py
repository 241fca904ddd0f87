"""A folder of files as documents: which files are read, their formats, and their passages."""

from t1_jax.retrieval.folder.read import FileState as FileState
from t1_jax.retrieval.folder.read import FolderContents as FolderContents
from t1_jax.retrieval.folder.read import read_folder as read_folder
