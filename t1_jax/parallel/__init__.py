"""Layer 0: meshes, logical-axis rules and the processes of a job."""

from t1_jax.parallel.compiles import count_compilations as count_compilations
from t1_jax.parallel.mesh import MeshConfig as MeshConfig
from t1_jax.parallel.mesh import MeshContext as MeshContext
from t1_jax.parallel.mesh import all_global_to_host as all_global_to_host
from t1_jax.parallel.mesh import default_mesh_context as default_mesh_context
from t1_jax.parallel.mesh import global_to_host as global_to_host
from t1_jax.parallel.mesh import host_to_global as host_to_global
from t1_jax.parallel.mesh import make_mesh_context as make_mesh_context
from t1_jax.parallel.mesh import on_mesh as on_mesh
from t1_jax.parallel.mesh import single_device_mesh_context as single_device_mesh_context
from t1_jax.parallel.processes import end_process as end_process
from t1_jax.parallel.processes import multi_host_job as multi_host_job
from t1_jax.parallel.processes import process_store as process_store
from t1_jax.parallel.processes import start_multi_host as start_multi_host
from t1_jax.parallel.rules import LETTER_AXES as LETTER_AXES
from t1_jax.parallel.rules import MESH_AXES as MESH_AXES
from t1_jax.parallel.rules import ShardingRules as ShardingRules
from t1_jax.parallel.rules import activation_axes as activation_axes
from t1_jax.parallel.rules import weight_axes as weight_axes
from t1_jax.parallel.topology import CHIPS as CHIPS
from t1_jax.parallel.topology import Chip as Chip
from t1_jax.parallel.topology import Topology as Topology
from t1_jax.parallel.topology import find_topology as find_topology
