"""Reference thoughts for the cold start: from templates, or from a teacher model."""

from t1_jax.train.thoughts.answers import AnswerFile as AnswerFile
from t1_jax.train.thoughts.answers import with_thoughts as with_thoughts
from t1_jax.train.thoughts.choose import choose_thoughts as choose_thoughts
from t1_jax.train.thoughts.corpus_pairs import corpus_records as corpus_records
from t1_jax.train.thoughts.corpus_pairs import title_pairs as title_pairs
from t1_jax.train.thoughts.endpoint import Endpoint as Endpoint
from t1_jax.train.thoughts.endpoint import EndpointError as EndpointError
from t1_jax.train.thoughts.endpoint import complete_chat as complete_chat
from t1_jax.train.thoughts.judges import judge_bm25 as judge_bm25
from t1_jax.train.thoughts.judges import judge_dense as judge_dense
from t1_jax.train.thoughts.judges import score_queries as score_queries
from t1_jax.train.thoughts.teacher import TeacherConfig as TeacherConfig
from t1_jax.train.thoughts.teacher import ask_teacher as ask_teacher
from t1_jax.train.thoughts.teacher import think_locally as think_locally
from t1_jax.train.thoughts.template import cached_source as cached_source
from t1_jax.train.thoughts.template import document_pairs as document_pairs
from t1_jax.train.thoughts.template import template_records as template_records
from t1_jax.train.thoughts.template_text import with_text_thoughts as with_text_thoughts
from t1_jax.train.thoughts.wording import count_pieces as count_pieces
