from t1_jax.retrieval import Collection, Document, Query
from t1_jax.retrieval.datasets import Consequence, ObservedExample, Weakness
from t1_jax.train.thoughts.template_cwe import cwe_pairs, cwe_thoughts

SCRIPTING = Weakness(
    id="CWE-79",
    name="Improper Neutralization of Input During Web Page Generation ('Cross-site Scripting')",
    status="Stable",
    description="The product does not neutralize input before it is placed in a page. More.",
    extended_description="There are many variants of this. They differ in where script comes from.",
    parents=("CWE-74",),
    consequences=(
        Consequence(
            scopes=("Integrity",),
            impacts=("Other", "Execute Unauthorized Code or Commands"),
            note="The attacker may run script in the browser of a victim.",
        ),
    ),
    examples=(ObservedExample(reference="CVE-1", description="page title shows form unescaped"),),
    other_names=("XSS", "HTML Injection: used as a synonym of stored variants"),
    illustrations=("This code displays a welcome message on a page [REF-7].",),
    mitigations=("Use a library that escapes output by context.",),
)
INJECTION = Weakness(
    id="CWE-74",
    name="Injection",
    status="Stable",
    description="The product receives input from an upstream component, but it does not neutralize "
    "what is special downstream.",
    extended_description="",
    parents=("CWE-1",),
    consequences=(),
    examples=(),
    mitigations=("Use a library that escapes output by context.",),
)
OLD = Weakness(
    id="CWE-1",
    name="DEPRECATED: Old",
    status="Deprecated",
    description="Nothing.",
    extended_description="",
    parents=(),
    consequences=(),
    examples=(),
    other_names=("An old name of something",),
)
ENTRIES = (SCRIPTING, INJECTION, OLD)
COLLECTION = Collection(
    name="cwe",
    documents=tuple(Document(id=e.id, title=e.name, text=e.description) for e in ENTRIES[:2]),
    queries=(
        Query(id="CVE-1", text="page title shows form unescaped"),
        Query(id="CVE-2", text="both at once"),
        Query(id="CVE-3", text="nobody judged this"),
    ),
    qrels={"CVE-1": {"CWE-79": 2, "CWE-74": 1}, "CVE-2": {"CWE-79": 2, "CWE-74": 2}},
)


def test_a_thought_says_name_fault_kind_and_consequence():
    thoughts = cwe_thoughts(ENTRIES, COLLECTION)
    assert thoughts.keys() == {"CVE-1", "CVE-2"}
    short, name_first, fault_first, whole = thoughts["CVE-1"]
    assert "Cross-site Scripting" in short  # the title itself is too long
    assert name_first.startswith("Cross-site Scripting: ")
    assert name_first.endswith(": does not neutralize input before it is placed in a page.")
    assert fault_first.casefold().index("does not neutralize") < fault_first.index("Cross-site")
    assert "Weakness: Cross-site Scripting, " in fault_first
    assert "Injection" in fault_first
    assert "execute unauthorized code or commands." in whole
    assert "other" not in whole.split()
    assert whole.startswith("Improper Neutralization of Input During Web Page Generation ('Cross")
    assert len(short) < len(name_first) < len(whole)


def test_each_weakness_of_the_best_grade_is_told_of():
    said = cwe_thoughts(ENTRIES, COLLECTION)["CVE-2"]
    assert "Cross-site Scripting" in said[0]
    assert "Injection" in said[0]
    assert any("oes not neutralize what is special downstream" in thought for thought in said)
    assert any("before it is placed" in thought for thought in said)


def test_a_deprecated_parent_is_not_named():
    assert not any("Old" in t for said in cwe_thoughts(ENTRIES, COLLECTION).values() for t in said)


def test_thoughts_do_not_depend_on_the_other_queries():
    alone = Collection(
        name="cwe",
        documents=COLLECTION.documents,
        queries=COLLECTION.queries[1:2],
        qrels={"CVE-2": COLLECTION.qrels["CVE-2"]},
    )
    assert cwe_thoughts(ENTRIES, alone)["CVE-2"] == cwe_thoughts(ENTRIES, COLLECTION)["CVE-2"]


def test_pairs_are_made_of_all_but_accounts_of_vulnerabilities():
    pairs = {pair.text: pair for pair in cwe_pairs(ENTRIES)}
    assert "XSS" in pairs
    assert "This code displays a welcome message on a page" in pairs
    assert "The attacker may run script in the browser of a victim" in pairs
    assert "There are many variants of this" in pairs
    assert not any("unescaped" in text or "old name" in text for text in pairs)
    assert pairs["XSS"].id == "doc:CWE-79:0"
    assert pairs["XSS"].grades == {"CWE-79": 2, "CWE-74": 1}
    assert len(pairs["XSS"].thoughts) == 4


def test_a_shared_text_belongs_to_all_who_share_it():
    (shared,) = [p for p in cwe_pairs(ENTRIES) if p.text.startswith("Use a library")]
    assert shared.grades == {"CWE-74": 2, "CWE-79": 2}
