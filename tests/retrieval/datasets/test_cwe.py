from dataclasses import replace
from pathlib import Path

import pytest

from t1_jax.errors import DataError
from t1_jax.retrieval import Collection, load_collection, save_collection
from t1_jax.retrieval.datasets import Consequence, ObservedExample, build_cwe, parse_cwe
from t1_jax.retrieval.datasets.cwe import query_text

CATALOG = """<?xml version="1.0" encoding="UTF-8"?>
<Weakness_Catalog xmlns="http://cwe.mitre.org/cwe-7" xmlns:xhtml="http://www.w3.org/1999/xhtml">
 <Weaknesses>
  <Weakness ID="119" Name="Buffer Errors" Status="Stable">
   <Description>The product reads or writes outside a buffer.</Description>
   <Related_Weaknesses>
    <Related_Weakness Nature="ChildOf" CWE_ID="118" View_ID="1000"/>
    <Related_Weakness Nature="ChildOf" CWE_ID="20" View_ID="700"/>
   </Related_Weaknesses>
   <Observed_Examples>
    <Observed_Example><Reference>CVE-2001-0001</Reference>
     <Description>long header overruns
      a buffer in the mail server (CWE-787), which crashes (CWE-20 and CWE-1, CWE-2).</Description>
    </Observed_Example>
    <Observed_Example><Reference>CVE-2001-0002</Reference>
     <Description>Four words and CVE-2001-0009.</Description></Observed_Example>
   </Observed_Examples>
  </Weakness>
  <Weakness ID="787" Name="Out-of-bounds Write" Status="Draft">
   <Description>The product writes past the end.</Description>
   <Extended_Description><xhtml:p>First.</xhtml:p><xhtml:p>Second<xhtml:br/>line.</xhtml:p>
   </Extended_Description>
   <Related_Weaknesses>
    <Related_Weakness Nature="ChildOf" CWE_ID="119" View_ID="1000"/>
    <Related_Weakness Nature="PeerOf" CWE_ID="20" View_ID="1000"/>
   </Related_Weaknesses>
   <Common_Consequences>
    <Consequence><Scope>Integrity</Scope><Scope>Availability</Scope>
     <Impact>Modify Memory</Impact><Note>It  crashes.</Note></Consequence>
   </Common_Consequences>
   <Observed_Examples>
    <Observed_Example><Reference>CVE-2001-0001</Reference>
     <Description>long header overruns a buffer in the mail server (CWE-787), which crashes
      (CWE-20 and CWE-1, CWE-2).</Description></Observed_Example>
    <Observed_Example><Reference>CVE-2001-0001</Reference>
     <Description>another account of the same flaw, calling strcpy()</Description>
    </Observed_Example>
    <Observed_Example><Reference>CVE-2001-0003</Reference>
     <Description>Another account of the same flaw, calling strcpy().</Description>
    </Observed_Example>
   </Observed_Examples>
  </Weakness>
  <Weakness ID="118" Name="DEPRECATED: Old" Status="Deprecated">
   <Description>Use another one.</Description>
  </Weakness>
 </Weaknesses>
</Weakness_Catalog>
"""


@pytest.fixture
def xml(tmp_path: Path) -> Path:
    path = tmp_path / "cwec.xml"
    path.write_text(CATALOG, encoding="utf-8")
    return path


def whole(splits: dict[str, Collection]) -> Collection:
    return replace(
        splits["train"],
        queries=tuple(query for part in splits.values() for query in part.queries),
        qrels={key: grades for part in splits.values() for key, grades in part.qrels.items()},
    )


def test_records_keep_what_thoughts_are_made_of(xml: Path):
    buffer, write, deprecated = parse_cwe(xml)
    assert (buffer.id, buffer.name, buffer.parents) == ("CWE-119", "Buffer Errors", ("CWE-118",))
    assert write.extended_description == "First. Second line."
    assert write.parents == ("CWE-119",)
    assert write.consequences == (
        Consequence(
            scopes=("Integrity", "Availability"), impacts=("Modify Memory",), note="It crashes."
        ),
    )
    assert buffer.examples[1] == ObservedExample(
        reference="CVE-2001-0002", description="Four words and CVE-2001-0009."
    )
    assert deprecated.status == "Deprecated"


def test_a_record_keeps_other_names_illustrations_and_mitigations(xml: Path):
    more = """<Alternate_Terms>
    <Alternate_Term><Term>OOB write</Term></Alternate_Term>
    <Alternate_Term><Term>Overflow</Term><Description>Often used
     loosely.</Description></Alternate_Term></Alternate_Terms>
   <Taxonomy_Mappings><Taxonomy_Mapping><Entry_ID>7</Entry_ID><Entry_Name>Writes out</Entry_Name>
    </Taxonomy_Mapping><Taxonomy_Mapping><Entry_ID>8</Entry_ID></Taxonomy_Mapping>
   </Taxonomy_Mappings>
   <Demonstrative_Examples><Demonstrative_Example><Intro_Text>Look at this.</Intro_Text>
    <Example_Code>a[9] = 1</Example_Code><Body_Text>It is <xhtml:b>wrong</xhtml:b>.</Body_Text>
   </Demonstrative_Example></Demonstrative_Examples>
   <Potential_Mitigations><Mitigation><Phase>Design</Phase><Description>Check bounds.</Description>
   </Mitigation></Potential_Mitigations><Common_Consequences>"""
    xml.write_text(CATALOG.replace("<Common_Consequences>", more), encoding="utf-8")
    buffer, write, _ = parse_cwe(xml)
    assert write.other_names == ("OOB write", "Overflow: Often used loosely.", "Writes out")
    assert write.illustrations == ("Look at this.", "It is wrong .")
    assert write.mitigations == ("Check bounds.",)
    assert (buffer.other_names, buffer.illustrations, buffer.mitigations) == ((), (), ())


def test_documents_are_the_live_weaknesses(xml: Path):
    collection = whole(build_cwe(xml))
    assert [document.id for document in collection.documents] == ["CWE-119", "CWE-787"]
    assert collection.documents[1].full_text == (
        "Out-of-bounds Write\nThe product writes past the end. First. Second line."
    )


def test_queries_are_distinct_accounts_graded_two_and_one(xml: Path):
    collection = whole(build_cwe(xml))
    assert {query.id: query.text for query in collection.queries} == {
        "CVE-2001-0001": "long header overruns a buffer in the mail server, which crashes.",
        "CVE-2001-0001#2": "another account of the same flaw, calling strcpy()",
        "CVE-2001-0003": "Another account of the same flaw, calling strcpy().",
    }
    assert collection.qrels == {
        "CVE-2001-0001": {"CWE-119": 2, "CWE-787": 2},
        "CVE-2001-0001#2": {"CWE-787": 2, "CWE-119": 1},
        "CVE-2001-0003": {"CWE-787": 2, "CWE-119": 1},
    }
    assert collection.gold_titles("CVE-2001-0003") == ("Out-of-bounds Write",)


def test_one_vulnerability_and_one_text_stay_in_one_split(xml: Path):
    # The three accounts hang together: two by their CVE number, two by their text.
    assert sorted(len(part.queries) for part in build_cwe(xml).values()) == [0, 0, 3]


@pytest.mark.parametrize(
    ("description", "text"),
    [
        ("overflow (CWE-190) leads to CWE-787 in gets()", "overflow leads to in gets()"),
        ("a fix of CVE-2020-12345 (see CVE-2021-1)", "a fix of (see )"),
        ("cwe in lower case, CWE without number", "cwe in lower case, CWE without number"),
    ],
)
def test_numbers_are_stripped_from_queries(description: str, text: str):
    assert query_text(description) == text


def test_the_built_collection_carries_its_licence_and_source(xml: Path, tmp_path: Path):
    splits = build_cwe(xml)
    filled = {name: part for name, part in splits.items() if part.queries}
    save_collection(filled, tmp_path / "cwe")
    loaded = load_collection(tmp_path / "cwe", next(iter(filled)))
    assert "MITRE" in loaded.metadata["attribution"]
    assert "royalty-free license" in loaded.metadata["license"]
    assert len(loaded.metadata["source_sha256"]) == 64
    assert str(tmp_path) not in loaded.metadata["source"]


def test_faults_of_the_file_are_named(tmp_path: Path):
    broken = tmp_path / "broken.xml"
    with pytest.raises(DataError, match=r"broken\.xml cannot be read"):
        parse_cwe(broken)
    broken.write_text("<a>\n<b></a>")
    with pytest.raises(DataError, match=r"broken\.xml:2: malformed XML"):
        parse_cwe(broken)
    broken.write_text("<a/>")
    with pytest.raises(DataError, match="not a CWE catalog"):
        parse_cwe(broken)
