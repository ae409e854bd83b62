"""From files to pairs: what is read is what the files say, and every fault is one sentence."""

import gzip
import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pair_data import bases, little_pairs, truncate, write_fasta, write_tsv

from pertexp.config.errors import DataError, RequestError
from pertexp.data.pairs.coordinates import LENGTHS, CoordinatePairTable
from pertexp.data.pairs.reading import EpFolder, SequencePairTable, read_table
from pertexp.data.pairs.tokens import decode

CHR1, CHR2 = bases(3000, 1), bases(2000, 2)


def sequence_table(**changes):
    frame = pd.DataFrame(
        {
            "enhancer_sequence": [CHR1[100:160], CHR1[100:160], CHR1[300:350]],
            "promoter_sequence": [CHR1[1000:1100], CHR1[1500:1600], CHR1[1000:1100]],
            "cell_line": ["A", "A", "B"],
            "label": ["1", "0", "1"],
        }
    )
    return frame.assign(**changes)


def places(**changes):
    return sequence_table(
        chrom="chr1",
        enhancer_start=[100, 100, 300],
        enhancer_end=[160, 160, 350],
        promoter_start=[1000, 1500, 1000],
        promoter_end=[1100, 1600, 1100],
    ).assign(**changes)


def text_of(pairs, side, row):
    return decode(pairs.elements.store.element(getattr(pairs, side)[row]))


def read_sequences(tmp_path, frame, **options):
    return SequencePairTable(path=str(write_tsv(tmp_path / "pairs.tsv", frame)), **options).read()


def test_an_element_is_encoded_once_however_often_it_is_paired(tmp_path):
    pairs = read_sequences(tmp_path, sequence_table())
    assert (len(pairs), len(pairs.elements), pairs.lines) == (3, 4, ("A", "B"))
    assert pairs.elements.store.tokens.size == 60 + 50 + 100 + 100
    for row, frame_row in enumerate(sequence_table().itertuples()):
        assert text_of(pairs, "enhancer", row) == frame_row.enhancer_sequence
        assert text_of(pairs, "promoter", row) == frame_row.promoter_sequence
    assert pairs.label.tolist() == [1, 0, 1]
    assert not pairs.elements.placed


@pytest.mark.parametrize("counting", ["zero_based", "one_based"])
def test_places_count_as_they_are_said_to(tmp_path, counting):
    shift = 1 if counting == "one_based" else 0
    frame = places()
    frame = frame.assign(enhancer_start=frame["enhancer_start"] + shift, promoter_start=frame["promoter_start"] + shift)
    pairs = read_sequences(tmp_path, frame, coordinates=counting)
    assert pairs.elements.start[pairs.enhancer].tolist() == [100, 100, 300]
    assert pairs.elements.end[pairs.promoter].tolist() == [1100, 1600, 1100]
    assert pairs.distance.tolist() == [840, 1340, 650]
    other = "zero_based" if counting == "one_based" else "one_based"
    with pytest.raises(DataError, match=f"row 1: the place is .* check that coordinates are {other}"):
        read_sequences(tmp_path, frame, coordinates=other)


def test_the_file_may_call_its_columns_otherwise_and_be_csv(tmp_path):
    path = tmp_path / "mine.csv.gz"
    sequence_table().rename(columns={"label": "y", "cell_line": "line"}).to_csv(path, index=False)
    pairs = SequencePairTable(path=str(path), columns={"label": "y", "cell_line": "line"}, lines=["A"]).read()
    assert (len(pairs), pairs.lines, len(pairs.elements)) == (2, ("A",), 3)


@pytest.mark.parametrize(
    ("frame", "options", "said"),
    [
        (sequence_table(label=["1", "2", "0"]), {}, "row 2: the label is '2'"),
        (sequence_table(label=["1", "", "0"]), {}, "row 2: the label is ''"),
        (sequence_table(cell_line=["A", "B", " "]), {}, "row 3: the cell line is missing"),
        (sequence_table(enhancer_sequence=["ACGT", "", "ACG"]), {}, "row 2: the enhancer sequence is empty"),
        (sequence_table(promoter_sequence=["ACGT", "ACZ", "ACG"]), {}, "the letter 'Z' at place 3"),
        (pd.concat([sequence_table()] * 2), {}, "rows 1 and 4: .* with one label"),
        (pd.concat([sequence_table(), sequence_table(label="0")]), {}, "rows 1 and 4: .* with both labels"),
        (sequence_table().drop(columns="label"), {}, "has no column 'label'"),
        (sequence_table().head(0), {}, "holds no pair"),
        (sequence_table(), {"lines": ["C"]}, "names the cell line 'C'"),
        (sequence_table(), {"columns": {"label": "y"}}, "has no column 'y' .data.columns.label"),
        (sequence_table(enhancer="one"), {}, "the element 'one' stands with two places or sequences"),
        (sequence_table(), {"coordinates": "zero_based"}, "has no column 'chrom'"),
        (places(enhancer_end="x"), {"coordinates": "zero_based"}, "row 1: enhancer_start '100' and enhancer_end 'x'"),
        (places(enhancer_start=-1), {"coordinates": "zero_based"}, "are no place on a chromosome"),
        (places(promoter_end=1000), {"coordinates": "zero_based"}, "row 1: promoter_start '1000'"),
        (places(enhancer_start=0), {"coordinates": "one_based"}, "whole numbers from 1"),
    ],
)
def test_tables_that_are_refused(tmp_path, frame, options, said):
    with pytest.raises(DataError, match=said) as fault:
        read_sequences(tmp_path, frame, **options)
    assert "\n" not in str(fault.value)


def test_files_that_are_missing_truncated_or_unreadable(tmp_path):
    whole = write_tsv(tmp_path / "whole.tsv", sequence_table())
    (tmp_path / "foreign.tsv.gz").write_bytes(b"no gzip at all")
    (tmp_path / "binary.tsv").write_bytes(bytes(range(128, 256)) * 20)
    (tmp_path / "empty.tsv").write_text("")
    (tmp_path / "ragged.tsv").write_text(whole.read_text().rstrip("\n").rpartition("\t")[0] + "\n")
    truncate(tmp_path / "cut.tsv.gz", whole)
    for name in ("foreign.tsv.gz", "binary.tsv", "empty.tsv", "cut.tsv.gz"):
        with pytest.raises(DataError, match="cannot be read as a table"):
            read_table(tmp_path / name)
    with pytest.raises(DataError, match="row 3: the label is ''"):
        SequencePairTable(path=str(tmp_path / "ragged.tsv")).read()
    with pytest.raises(DataError, match=r"no file .*gone.tsv: look here"):
        read_table(tmp_path / "gone.tsv", "look here")


def coordinates(tmp_path, frame, fasta=None, **options):
    fasta = fasta or write_fasta(tmp_path / "genome.fa", {"chr1": CHR1, "chr2": CHR2})
    table = write_tsv(tmp_path / "places.tsv", frame)
    return CoordinatePairTable(path=str(table), fasta=str(fasta), **options).read()


def bare_places(**changes):
    return places(**changes).drop(columns=["enhancer_sequence", "promoter_sequence"])


def test_sequences_are_cut_from_the_genome(tmp_path):
    pairs = coordinates(tmp_path, bare_places())
    assert text_of(pairs, "enhancer", 2) == CHR1[300:350]
    assert text_of(pairs, "promoter", 1) == CHR1[1500:1600]
    assert pairs.distance.tolist() == [840, 1340, 650]
    assert len(pairs.elements) == 4
    coordinates(tmp_path, places())  # sequences in the table are checked against the genome
    one = coordinates(tmp_path, bare_places(), coordinates="one_based")
    assert text_of(one, "enhancer", 2) == CHR1[299:350]


def test_other_codes_of_a_genome_become_n_and_lower_case_is_read(tmp_path):
    changed = CHR1[:110].lower() + "RY" + CHR1[112:]
    fasta = write_fasta(tmp_path / "soft.fa", {"chr1": changed})
    assert text_of(coordinates(tmp_path, bare_places(), fasta), "enhancer", 0) == CHR1[100:110] + "NN" + CHR1[112:160]


@pytest.mark.parametrize(
    ("frame", "contigs", "said"),
    [
        (bare_places(), {"1": CHR1}, "has no contig 'chr1'"),
        (bare_places(promoter_end=99_999), {"chr1": CHR1}, "chr1 ends at 3000 .* another build"),
        (places(), {"chr1": CHR1[1:] + "A"}, "row 1: the enhancer sequence begins .* of another build"),
        (places(enhancer_end=[160, 170, 350]), {"chr1": CHR1}, r"row 2: .*\(60 bases\), .* \(70\) there"),
        (bare_places(cell_line=""), {"chr1": CHR1}, "the cell line is missing"),
        (pd.concat([bare_places()] * 2), {"chr1": CHR1}, "stands more than once"),
    ],
)
def test_genomes_that_do_not_fit(tmp_path, frame, contigs, said):
    with pytest.raises(DataError, match=said):
        coordinates(tmp_path, frame, write_fasta(tmp_path / "other.fa", contigs))


def test_genomes_that_are_missing_or_unreadable(tmp_path):
    with pytest.raises(DataError, match=r"give the genome with data\.fasta"):
        coordinates(tmp_path, bare_places(), tmp_path / "gone.fa")
    for name, content in (("table.fa", b"a\tb\n"), ("ragged.fa", b">chr1\nACGT\nAC\nACGT\nACGTACGT\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=r"cannot be read as FASTA|holds no sequence"):
            coordinates(tmp_path, bare_places(), tmp_path / name)
    (tmp_path / "zipped.fa.gz").write_bytes(gzip.compress(b">chr1\nACGT\n"))
    with pytest.raises(DataError, match="cannot be read as FASTA"):
        coordinates(tmp_path, bare_places(), tmp_path / "zipped.fa.gz")


def test_a_genome_of_another_build_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(LENGTHS, "hg38", {"chr1": 3000})
    monkeypatch.setitem(LENGTHS, "hg19", {"chr1": 3001})
    assert len(coordinates(tmp_path, bare_places(), build="hg38")) == 3
    with pytest.raises(DataError, match="in hg19 it is 3001, so this is hg38"):
        coordinates(tmp_path, bare_places(), build="hg19")


def test_targetfinder_tables_count_from_one(tmp_path):
    frame = pd.DataFrame(
        {
            "cell_line": ["GM12878", "HUVEC"], "chrom": "chr1", "enh_start": [101, 301], "enh_end": [160, 350],
            "prom_start": 1001, "prom_end": 1100, "distance": 5, "label": [1, 0],
        }
    )  # fmt: skip
    pairs = coordinates(tmp_path, frame, layout="targetfinder", build="any")
    assert [text_of(pairs, "enhancer", row) for row in (0, 1)] == [CHR1[100:160], CHR1[300:350]]
    assert pairs.elements.start[pairs.promoter].tolist() == [1000, 1000]
    with pytest.raises(DataError, match="in hg19 it is 249250621"):
        coordinates(tmp_path, frame, layout="targetfinder")
    for column in frame.columns.drop("distance"):  # in the words of TargetFinder, not in ours
        others = ", ".join(frame.columns.drop(column))
        with pytest.raises(DataError, match=rf"has no column '{column}' \({others}\)"):
            coordinates(tmp_path, frame.drop(columns=column), layout="targetfinder", build="any")


def bengi(**changes):
    return pd.DataFrame(
        {
            "dataset": ["GM12878.HiC", "GM12878.HiC", "HeLa.HiC", "GM12878.CTCF-ChIAPET"],
            "label": [1, 1, 0, 0], "distance": 1.0, "chrom": "chr1", "els_start": 100, "els_end": 160,
            "tss": [1500, 1500, 1400, 1500], "gene": "g", "transcript": list("abcd"), "strand": ["+", "+", "-", "+"],
        }
    ).assign(**changes)  # fmt: skip


def test_bengi_tables_are_cut_around_the_transcription_start_on_its_strand(tmp_path):
    options = {"layout": "bengi", "build": "any", "promoter_flanks": [200, 50]}
    pairs = coordinates(tmp_path, bengi(), **options)
    assert pairs.lines == ("GM12878", "HeLa")
    assert len(pairs) == 2  # a second transcript that begins at the same base is the same pair
    assert pairs.elements.start[pairs.promoter].tolist() == [1300, 1350]
    assert pairs.elements.end[pairs.promoter].tolist() == [1550, 1600]
    assert text_of(pairs, "enhancer", 0) == CHR1[100:160]
    with pytest.raises(DataError, match=r"no dataset of data.assay=RNAPII.*CTCF-ChIAPET"):
        coordinates(tmp_path, bengi(), assay="RNAPII", **options)
    with pytest.raises(DataError, match="names the cell line 'K562'"):
        coordinates(tmp_path, bengi(), lines=["K562"], **options)


@pytest.fixture(scope="module")
def ep(data_dir):
    if not (data_dir / "ep").is_dir():
        pytest.skip("no folder ep/ in the data folder")
    return data_dir / "ep"


def test_full_length_with_targetfinder_negatives_is_refused():
    with pytest.raises(RequestError, match=r"AUROC 0\.68"):
        EpFolder(path="nowhere", negatives="targetfinder").read()


def test_the_real_pairs_are_those_of_their_readme(ep):
    pairs = EpFolder(path=str(ep)).read()
    counted = pd.crosstab(np.array(pairs.lines)[pairs.line], pairs.label).to_numpy().tolist()
    assert pairs.lines == ("GM12878", "HUVEC", "HeLa-S3", "IMR90", "NHEK")
    assert counted == [[326, 531], [250, 436], [2055, 1740], [1084, 1254], [895, 1291]]
    at = pairs.elements
    assert np.array_equal(at.end - at.start, at.store.lengths)
    assert np.array_equal(at.chromosome[pairs.enhancer], at.chromosome[pairs.promoter])
    assert np.isfinite(pairs.distance).all()


def test_windows_of_the_real_pairs_are_the_first_200_bases(ep):
    pairs = EpFolder(path=str(ep), window="w200", negatives="targetfinder", lines=["NHEK"]).read()
    assert (len(pairs), int(pairs.label.sum())) == (1456, 1291)
    assert set(pairs.elements.store.lengths) == {200}
    assert not (pairs.elements.store.tokens == 4).any()


def test_the_real_sequences_are_those_of_the_bank(ep, tmp_path):
    """TargetFinder counts from 1: the first bases of its elements stand there in the contigs of the bank."""
    pairs = EpFolder(path=str(ep), window="w200", lines=["NHEK"]).read()
    at = pairs.elements
    wanted = {f"{at.chromosome[n]}": n for n in range(len(at))}
    found = 0
    bank = gzip.decompress((ep / "hg19_bank_contigs.fa.gz").read_bytes()).decode()
    for contig in bank.split(">")[1:]:
        header, _, body = contig.partition("\n")
        chromosome, _, span = header.partition(":")
        first, last = (int(number) for number in span.split("-"))
        number = wanted.get(chromosome)
        if number is not None and first <= at.start[number] + 1 and at.start[number] + 200 <= last:
            offset = int(at.start[number]) + 1 - first
            assert body.replace("\n", "")[offset : offset + 200] == decode(at.store.element(number))
            found += 1
    assert found > 15


def test_a_truncated_real_file_is_one_message(ep, tmp_path):
    (tmp_path / "elements.tsv.gz").write_bytes((ep / "elements.tsv.gz").read_bytes())
    truncate(tmp_path / "pairs.tsv.gz", ep / "pairs.tsv.gz")
    with pytest.raises(DataError, match="it may be truncated"):
        EpFolder(path=str(tmp_path)).read()


def test_the_hash_of_pairs_follows_labels_and_bases_and_no_order():
    pairs = little_pairs()
    assert pairs.take(np.random.default_rng(0).permutation(len(pairs))).hash == pairs.hash == pairs.spaced(50).hash
    label = pairs.label.copy()
    label[3] = 1 - label[3]
    tokens = pairs.elements.store.tokens.copy()
    tokens[7] = (tokens[7] + 1) % 4
    store = replace(pairs.elements.store, tokens=tokens)
    others = [replace(pairs, label=label), replace(pairs, elements=replace(pairs.elements, store=store))]
    assert len({pairs.hash, *(other.hash for other in others)}) == 3


def test_an_element_may_end_with_its_chromosome(tmp_path):
    pairs = coordinates(tmp_path, bare_places(promoter_end=[1100, 3000, 1100]))
    assert text_of(pairs, "promoter", 1) == CHR1[1500:3000]
    with pytest.raises(DataError, match="chr1 ends at 3000"):
        coordinates(tmp_path, bare_places(promoter_end=[1100, 3001, 1100]))


@pytest.mark.parametrize("column", bare_places().columns)
def test_a_column_that_a_table_of_places_lacks_is_named(tmp_path, column):
    with pytest.raises(DataError, match=f"has no column '{column}'"):
        coordinates(tmp_path, bare_places().drop(columns=column))


def test_the_record_of_pairs_says_where_they_are_from(tmp_path):
    frames = {"bed": bare_places(), "bengi": bengi()}
    found = {
        layout: coordinates(tmp_path, frame, layout=layout, build="any").provenance for layout, frame in frames.items()
    }
    for layout, record in found.items():
        assert (record["layout"], record["build"]) == (layout, "any")
        assert (record["file"], record["genome"]) == ("places.tsv", "genome.fa")
        assert record["genome_bytes"] == (tmp_path / "genome.fa").stat().st_size
    assert found["bengi"]["sha256"] == hashlib.sha256((tmp_path / "places.tsv").read_bytes()).hexdigest()
    assert (found["bengi"]["assay"], found["bengi"]["promoter_flanks"]) == ("HiC", [1000, 1000])
    assert not {"assay", "promoter_flanks"} & set(found["bed"])


def test_builds_are_told_by_the_lengths_that_ucsc_gives():
    assert LENGTHS["hg19"] == {
        "chr1": 249250621,
        "chr2": 243199373,
        "chr21": 48129895,
        "chr22": 51304566,
        "chrX": 155270560,
    }
    assert LENGTHS["hg38"] == {
        "chr1": 248956422,
        "chr2": 242193529,
        "chr21": 46709983,
        "chr22": 50818468,
        "chrX": 156040895,
    }
