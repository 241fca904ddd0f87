"""Floor 0: meshes, logical-axis rules and multi-host start-up."""

from t1_jax.parallel.compiles import Compilations as Compilations
from t1_jax.parallel.compiles import count_compilations as count_compilations
from t1_jax.parallel.hosts import all_whole as all_whole
from t1_jax.parallel.hosts import spread as spread
from t1_jax.parallel.hosts import whole as whole
from t1_jax.parallel.mesh import MeshConfig as MeshConfig
from t1_jax.parallel.mesh import Placement as Placement
from t1_jax.parallel.mesh import default_placement as default_placement
from t1_jax.parallel.mesh import make_placement as make_placement
from t1_jax.parallel.mesh import single_device_placement as single_device_placement
from t1_jax.parallel.mesh import start_multi_host as start_multi_host
from t1_jax.parallel.rules import LETTER_AXES as LETTER_AXES
from t1_jax.parallel.rules import MESH_AXES as MESH_AXES
from t1_jax.parallel.rules import ShardingRules as ShardingRules
from t1_jax.parallel.rules import activation_axes as activation_axes
from t1_jax.parallel.rules import weight_axes as weight_axes
