"""scFoundation's encoder on a tiny random checkpoint of its layout, and GEARS on what it yields."""

import functools

import numpy as np
import pytest
import torch
from command import TINY, command
from torch import nn
from torch.nn import functional

from pertexp.config.errors import DataError, MismatchError, RequestError
from pertexp.data.screens.annotations import PlantedSets
from pertexp.data.screens.batch_layouts import MatchedControlBatches
from pertexp.data.screens.datamodule import SimulatedScreenData
from pertexp.data.screens.embeddings import Planted
from pertexp.data.screens.simulator import SimulatedScreen
from pertexp.data.screens.splits import UnseenPerturbation
from pertexp.losses.gears import GearsLoss
from pertexp.models.gears import GEARS
from pertexp.models.scfoundation.cells import GeneOrder, cell_values
from pertexp.models.scfoundation.checkpoint import read_released
from pertexp.models.scfoundation.embedding import ScFoundation

N_GENES = 50
SIMULATOR = SimulatedScreen(
    n_genes=40, n_perturbations=12, n_combinations=0, cells_per_perturbation=20, n_controls=24, n_contexts=2
)
ADAM = functools.partial(torch.optim.Adam, lr=1e-3)


def layout(width=16, depth=2, out_width=8, out_depth=2, heads=2, head_width=4, bins=10) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the released checkpoint, written down from its specification, at these sizes."""
    features = int(head_width * np.log(head_width))
    names: dict[str, tuple[int, ...]] = {
        "token_emb.mlp.weight": (bins, 1), "token_emb.mlp.bias": (bins,),
        "token_emb.mlp2.weight": (bins, bins), "token_emb.mlp2.bias": (bins,),
        "token_emb.emb.weight": (bins, width), "token_emb.emb_mask.weight": (1, width),
        "token_emb.emb_pad.weight": (1, width), "pos_emb.weight": (N_GENES + 3, width),
        "decoder_embed.weight": (out_width, width), "decoder_embed.bias": (out_width,),
        "norm.weight": (out_width,), "norm.bias": (out_width,),
        "to_final.weight": (1, out_width), "to_final.bias": (1,),
        "encoder.norm.weight": (width,), "encoder.norm.bias": (width,),
        "decoder.norm.weight": (out_width,), "decoder.norm.bias": (out_width,),
        "decoder.performer.calls_since_last_redraw": (),
    }  # fmt: skip
    for layer in range(depth):
        at = f"encoder.transformer_encoder.{layer}"
        names |= {
            f"{at}.self_attn.in_proj_weight": (3 * width, width), f"{at}.self_attn.in_proj_bias": (3 * width,),
            f"{at}.self_attn.out_proj.weight": (width, width), f"{at}.self_attn.out_proj.bias": (width,),
            f"{at}.linear1.weight": (4 * width, width), f"{at}.linear1.bias": (4 * width,),
            f"{at}.linear2.weight": (width, 4 * width), f"{at}.linear2.bias": (width,),
        }  # fmt: skip
        names |= {f"{at}.{norm}.{part}": (width,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
    inner = heads * head_width
    for layer in range(out_depth):
        at = f"decoder.performer.net.layers.{layer}"
        names |= {f"{at}.{n}.norm.{part}": (out_width,) for n in (0, 1) for part in ("weight", "bias")}
        names[f"{at}.0.fn.fast_attention.projection_matrix"] = (features, head_width)
        for part in ("to_q", "to_k", "to_v"):
            names |= {f"{at}.0.fn.{part}.weight": (inner, out_width), f"{at}.0.fn.{part}.bias": (inner,)}
        names |= {f"{at}.0.fn.to_out.weight": (out_width, inner), f"{at}.0.fn.to_out.bias": (out_width,)}
        names |= {f"{at}.1.fn.fn.w1.weight": (4 * out_width, out_width), f"{at}.1.fn.fn.w1.bias": (4 * out_width,)}
        names |= {f"{at}.1.fn.fn.w2.weight": (out_width, 4 * out_width), f"{at}.1.fn.fn.w2.bias": (out_width,)}
    return names


def random_checkpoint(path, **changes) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    weights = {
        f"model.{name}": 0.5 * torch.randn(shape) if shape else torch.tensor(7) for name, shape in layout().items()
    }
    model = {
        "encoder": {"hidden_dim": 16, "depth": 2, "heads": 2, "dim_head": 8, "module_type": "transformer"},
        "decoder": {"hidden_dim": 8, "depth": 2, "heads": 2, "dim_head": 4, "module_type": "performer"},
        "n_class": 104, "bin_num": 10, "bin_alpha": 1.0, "pad_token_id": 103, "mask_token_id": 102,
    }  # fmt: skip
    part = {
        "config": {
            "model": "mae_autobin",
            "model_config": {"mae_autobin": model},
            "dataset_config": {"rnaseq": {"seq_len": N_GENES + 2}},
        },
        "state_dict": weights,
        **changes,
    }
    torch.save({"gene": part, "cell": part}, path)
    return {name.removeprefix("model."): value for name, value in weights.items()}


@pytest.fixture
def files(tmp_path):
    """A checkpoint, and a list of genes of which 32 are measured in the simulated screen."""
    weights = random_checkpoint(tmp_path / "models.ckpt")
    genes = [f"GENE{number:05d}" for number in range(9, 59)]
    lines = ["gene_name\tindex", *(f"{gene}\t{row}" for row, gene in enumerate(genes))]
    (tmp_path / "genes.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path, weights


def screen_data(**options) -> SimulatedScreenData:
    return SimulatedScreenData(
        name="simulated_screen", simulator=SIMULATOR, split=UnseenPerturbation(),
        gene_embedding=Planted(of="genes"), perturbation_embedding=Planted(of="perturbations"),
        annotation=PlantedSets(), normalize="where_counts", batches=MatchedControlBatches(drop_last=True), batch_size=8,
        **options,
    )  # fmt: skip


def by_hand(weights: dict[str, torch.Tensor], values: torch.Tensor) -> torch.Tensor:
    """One cell through the network, step by step as its specification says, in the plainest algebra."""
    w = {name: value.double() for name, value in weights.items() if value.dim()}
    values = values.double()

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        return functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    a = functional.leaky_relu(linear(values[:, None], "token_emb.mlp"), 0.1)
    tokens = torch.softmax(a + linear(a, "token_emb.mlp2"), dim=-1) @ w["token_emb.emb.weight"]
    on = values > 0
    x = tokens[on] + w["pos_emb.weight"][:-1][on]
    for layer in range(2):
        at = f"encoder.transformer_encoder.{layer}"
        q, k, v = (x @ w[f"{at}.self_attn.in_proj_weight"].T + w[f"{at}.self_attn.in_proj_bias"]).chunk(3, dim=1)
        heads = []
        for part in range(2):
            own = slice(8 * part, 8 * part + 8)
            heads.append(torch.softmax(q[:, own] @ k[:, own].T / np.sqrt(8), dim=1) @ v[:, own])
        x = norm(x + linear(torch.cat(heads, dim=1), f"{at}.self_attn.out_proj"), f"{at}.norm1")
        x = norm(x + linear(linear(x, f"{at}.linear1").relu(), f"{at}.linear2"), f"{at}.norm2")
    tokens[on] = norm(x, "encoder.norm")
    x = linear(tokens + w["pos_emb.weight"][:-1], "decoder_embed")
    for layer in range(2):
        at = f"decoder.performer.net.layers.{layer}"
        y = norm(x, f"{at}.0.norm")
        q, k, v = (linear(y, f"{at}.0.fn.{part}").view(-1, 2, 4).transpose(0, 1) for part in ("to_q", "to_k", "to_v"))
        omega = w[f"{at}.0.fn.fast_attention.projection_matrix"]
        q, k = (part * 4**-0.25 for part in (q, k))
        qd, kd = q @ omega.T, k @ omega.T
        m = len(omega) ** -0.5
        qf = m * (torch.exp(qd - (q**2).sum(-1, keepdim=True) / 2 - qd.amax(-1, keepdim=True)) + 1e-4)
        kf = m * (torch.exp(kd - (k**2).sum(-1, keepdim=True) / 2 - kd.max()) + 1e-4)
        attention = qf @ kf.transpose(1, 2)
        y = (attention / attention.sum(-1, keepdim=True)) @ v
        x = x + linear(y.transpose(0, 1).reshape(len(x), -1), f"{at}.0.fn.to_out")
        y = linear(norm(x, f"{at}.1.norm"), f"{at}.1.fn.fn.w1")
        x = x + linear(functional.gelu(y), f"{at}.1.fn.fn.w2")
    return norm(norm(x, "decoder.norm"), "norm")[:N_GENES]


def test_a_cell_is_read_as_the_specification_says(files):
    folder, weights = files
    network = read_released(folder / "models.ckpt").double()
    torch.manual_seed(1)
    values = torch.rand(3, N_GENES + 2) * (torch.rand(3, N_GENES + 2) < 0.4)
    values[:, -2:] = torch.tensor([3.1, 3.0])
    with torch.no_grad():
        together = network(values.double())
        for cell in range(3):
            expected = by_hand(weights, values[cell])
            torch.testing.assert_close(network(values[cell : cell + 1].double())[0], expected, rtol=1e-6, atol=1e-8)
            torch.testing.assert_close(together[cell], expected, rtol=1e-6, atol=1e-8)  # in any company


def test_the_released_sizes_are_those_of_the_specification():
    from pertexp.nn.mae_autobin import MaeAutobin, MaeAutobinShape

    with torch.device("meta"):
        network = MaeAutobin(MaeAutobinShape())
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["pos_emb.weight"] == (19267, 768)
    assert shapes["token_emb.emb.weight"] == (100, 768)
    assert shapes["decoder.performer.net.layers.5.0.fn.fast_attention.projection_matrix"] == (266, 64)
    assert 0.9e8 < sum(np.prod(shape) for shape in shapes.values()) < 1.3e8
    assert isinstance(network.encoder.transformer_encoder[11], nn.TransformerEncoderLayer)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "must be had from its authors"),
        (lambda path: path.write_bytes(path.read_bytes()[:400]), "cannot be read as a checkpoint"),
        (lambda path: torch.save({"rde": {}}, path), "no part 'gene'"),
        (lambda path: random_checkpoint(path, state_dict={"model.x": torch.zeros(1)}), "holds other weights"),
        (lambda path: random_checkpoint(path, config={"model": "mae_autobin"}), "no configuration"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(spoil, said, files):
    folder, _ = files
    spoil(folder / "models.ckpt")
    with pytest.raises(DataError, match=said):
        read_released(folder / "models.ckpt")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (lambda lines: lines[:-3], "names 47 genes, the checkpoint knows 50"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "out of order .row 1 has index 1"),
        (lambda lines: [lines[0], lines[1], lines[1].replace("\t0", "\t1"), *lines[3:]], "names a gene twice"),
        (lambda lines: ["gene\tnumber", *lines[1:]], "expected gene_name and index"),
    ],
)
def test_a_wrong_list_or_order_is_refused(lines, said, files):
    folder, _ = files
    path = folder / "genes.tsv"
    path.write_text("\n".join(lines(path.read_text().split("\n")[:-1])) + "\n")
    with pytest.raises(DataError, match=said):
        GeneOrder.read(path, N_GENES)


def test_values_are_counts_per_ten_thousand_in_its_order(files, caplog):
    caplog.set_level("INFO")
    design = screen_data().design
    cells = np.flatnonzero(design.role == "control")[:5]
    values = cell_values(design, cells, GeneOrder.read(files[0] / "genes.tsv", N_GENES), 0.5).toarray()
    screen = SIMULATOR()
    counts, depth = screen.expression[cells].toarray(), screen.depth[cells]
    expected = np.log1p(counts / depth[:, None] * 1e4)
    np.testing.assert_allclose(values[:, :32], expected[:, 8:40], rtol=1e-4)  # GENE00009 to GENE00040
    assert not values[:, 32:50].any()
    np.testing.assert_allclose(values[:, 51], np.log10(depth), rtol=1e-6)
    np.testing.assert_allclose(values[:, 50] - values[:, 51], 0.5, rtol=1e-5)
    assert "32 of its 50 genes are measured" in caplog.text


def test_cells_without_a_depth_are_refused(files):
    from dataclasses import replace

    design = screen_data().design
    design = replace(design, screen=replace(design.screen, depth=None))
    with pytest.raises(MismatchError, match=r"data\.depth_key"):
        cell_values(design, np.arange(3), GeneOrder.read(files[0] / "genes.tsv", N_GENES), 0.0)


def source(at, **options) -> ScFoundation:
    return ScFoundation(path=str(at / "models.ckpt"), genes=str(at / "genes.tsv"), **options)


def gears(data, embedding: ScFoundation, **options) -> GEARS:
    torch.manual_seed(0)
    return GEARS.from_data(data, GearsLoss(), ADAM, embedding=embedding, **{"hidden_size": 8, **options})


def epochs(model: GEARS, data, n: int) -> int:
    """Train; the number of cells seen."""
    optimizer, cells = model.configure_optimizers(), 0
    model.train()
    loader = data.train_dataloader()
    for epoch in range(n):
        loader.set_epoch(epoch)
        for batch in loader:
            optimizer.zero_grad()
            model._loss(batch).backward()
            optimizer.step()
            cells += len(batch["row"])
    return cells


@pytest.mark.medium
@pytest.mark.parametrize(("cache", "mode"), [("all", "v1"), ("pool", "v2"), ("static", "v2")])
def test_a_frozen_cell_is_read_once(cache, mode, files):
    data = screen_data()
    model = gears(data, source(files[0], cache=cache, mode=mode, pool=2))
    reader = model.embedding.cells.reader
    seen = epochs(model, data, 5)
    assert reader.passes == {"all": 24, "pool": 4, "static": 4}[cache]
    assert seen / reader.passes > (100 if cache != "all" else 30)  # of 24 controls; a screen has hundreds of them
    assert model.predict(data.design.units("test")).shape == (6, 40)
    assert not any(name.startswith("embedding.") for name, _ in model.named_parameters())


def test_cached_and_anew_are_the_same(files):
    data = screen_data()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    cached, anew = (gears(data, source(files[0], cache=cache)).embedding for cache in ("all", "none"))
    (a, place), (b, again) = cached(batch["control_row"]), anew(batch["control_row"])
    assert torch.equal(place, again)
    torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-3)  # kept in float16
    assert anew.cells.reader.passes - 16 == len(torch.unique(batch["control_row"]))  # 16 of the pool, to predict with


def test_embeddings_kept_in_a_folder_are_read_by_no_one_again(files):
    folder, _ = files
    data = screen_data()
    first = gears(data, source(folder, folder=str(folder / "kept"))).embedding
    second = gears(data, source(folder, folder=str(folder / "kept"))).embedding
    assert (first.cells.reader.passes, second.cells.reader.passes) == (24, 0)
    assert torch.equal(first.reference, second.reference)
    assert not list((folder / "kept").rglob("*.partial"))
    weights = torch.load(folder / "models.ckpt", weights_only=True)
    weights["gene"]["state_dict"]["model.norm.bias"] += 1
    torch.save(weights, folder / "models.ckpt")
    third = gears(data, source(folder, folder=str(folder / "kept"))).embedding
    assert third.cells.reader.passes == 24  # another checkpoint, other embeddings


def test_genes_that_it_does_not_know_have_no_embedding(files):
    model = gears(screen_data(), source(files[0], cache="static"))
    assert not model.embedding.reference[0, :8].any()
    assert model.embedding.reference[0, 8:].abs().sum(dim=1).min() > 0


def test_a_static_embedding_keeps_the_effect_the_same_for_all_cells(files):
    data = screen_data()
    units = data.design.units("test")
    for cache, same in (("static", True), ("all", False)):
        model = gears(data, source(files[0], cache=cache, pool=3))
        delta = model.predict(units) - model.control.double().numpy()[units.context]
        for perturbation in np.unique(units.perturbation):
            a, b = delta[units.perturbation == perturbation]
            assert np.allclose(a, b, atol=1e-6) == same


def test_a_checkpoint_alone_predicts_the_same_with_embeddings(files, tmp_path):
    data = screen_data()
    model = gears(data, source(files[0], cache="pool", pool=2, mode="v2"))
    epochs(model, data, 1)
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "gears.ckpt")
    loaded = GEARS.from_checkpoint(torch.load(tmp_path / "gears.ckpt", weights_only=True)["state_dict"])
    for context in ("context1", "context2"):
        ours, theirs = (each.predict_sets([["TARGET00001"]], context).X for each in (loaded, model))
        np.testing.assert_array_equal(ours, theirs)


def test_a_trained_encoder_moves_and_is_kept(files):
    data = screen_data()
    model = gears(data, source(files[0], finetune=True, cache="none", pool=1), encoder_lr_factor=0.1)
    optimizer = model.configure_optimizers()
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, pytest.approx(1e-4)]
    before = model.embedding.encoder.norm.weight.detach().clone()
    batch = next(iter(data.train_dataloader()))
    model._loss(batch).backward()
    optimizer.step()
    assert not torch.equal(model.embedding.encoder.norm.weight, before)
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    loaded = GEARS.from_checkpoint(checkpoint["state_dict"])
    expected = model.embedding.cells.reader.read(model.embedding.cells.pool).half()
    torch.testing.assert_close(loaded.embedding.reference, expected)


@pytest.mark.parametrize(
    ("options", "model", "error", "said"),
    [
        ({"pool": 0}, {}, RequestError, r"model\.embedding\.pool=0"),
        ({"finetune": True}, {}, RequestError, r"model\.embedding\.cache=none"),
        ({}, {"hidden_size": 16}, MismatchError, r"model\.hidden_size=8"),
        ({}, {"reference_mode": True}, MismatchError, r"model\.reference_mode=false"),
    ],
)
def test_what_does_not_fit_is_refused(options, model, error, said, files):
    with pytest.raises(error, match=said):
        gears(screen_data(), source(files[0], **options), **model)


@pytest.mark.medium
def test_the_command_runs_with_the_tiny_checkpoint(files, monkeypatch):
    folder, _ = files
    monkeypatch.setenv("PERTEXP_OUTPUTS", str(folder))
    words = ["model/embedding=scfoundation", f"model.embedding.path={folder}/models.ckpt",
             f"model.embedding.genes={folder}/genes.tsv", "model.hidden_size=8", "data.batch_size=16"]  # fmt: skip
    done = command("model=gears", *TINY, *words)
    assert done.code == 0, done.err
    assert "gears" in done.out
    refused = command("model=gears", *TINY, *words, "model.embedding.mode=v3")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
