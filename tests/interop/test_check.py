"""`check` on what needs no framework: every mistake is found beside the others, named, and told how to mend."""

from __future__ import annotations

import pickle
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any, Literal
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch
from safetensors.torch import save_file
from small import digits, untouched
from torch import Tensor, nn
from torch.nn import functional as F

import spikeproof
from spikeproof.commands import main
from spikeproof.encoders.latency import Latency
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.interop.check import Checked, check, check_path
from spikeproof.tensors import exact, graft, image_keys

X, Y, IDS = digits(12)


def layers(*last: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10), *last)


def seeded(make: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def asked(make: Any, **options: Any) -> Checked:
    model = seeded(make)
    with untouched(model):
        return check(model, X, **options)


class Function(nn.Module):
    """Some function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


class Leaky(nn.Module):
    """A neuron that takes all steps at once, time along `axis`, in plain torch."""

    def __init__(self, axis: int = 0) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, z: Tensor) -> Tensor:
        v, out = torch.zeros(()), []
        for x in z.unbind(self.axis):
            v = 0.5 * v + x
            s = graft((v > 0.2).to(x.dtype), torch.sigmoid(4 * (v - 0.2)))
            v = v * (1 - s.detach())
            out.append(s)
        return torch.stack(out, self.axis)


class Timed(nn.Module):
    """(T,N,*) or, with axis 1, (N,T,*) -> logits, averaged over time or not."""

    def __init__(self, axis: int = 0, *, mean: bool = False) -> None:
        super().__init__()
        self.axis, self.mean = axis, mean
        self.hidden, self.neuron, self.fc = nn.Linear(64, 32), Leaky(axis), nn.Linear(32, 10)

    def forward(self, z: Tensor) -> Tensor:
        assert z.dim() == 5, "five axes"
        out = self.fc(self.neuron(self.hidden(z.flatten(2))))
        return out.mean(self.axis) if self.mean else out  # type: ignore[no-any-return]


class Steps(nn.Module):
    """One step a call, with a state that its owner passes from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor, v: Any = None) -> tuple[Tensor, Tensor]:
        v = self.fc(x.flatten(1)) + (0.0 if v is None else 0.5 * v)
        return torch.relu(v), v


class Swapped(nn.Module):
    """An image in, (N,T,*) made of it, and given to a network that takes (T,N,*)."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Timed()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x[:, None].repeat(1, 5, 1, 1, 1)).mean(1)  # type: ignore[no-any-return]


class Remembers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        out = x + 0.1 * self.last
        self.last = x.detach().mean(0)
        return out


class KeepsGraphs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.seen[len(self.seen)] = x
        return x


class NeedsCuda(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("Expected a CUDA tensor")


def printing(x: Tensor) -> Tensor:
    print("shape", x.shape)
    return x


def test_a_sound_network_is_all_ok_but_for_what_was_not_tried() -> None:
    found = asked(lambda: layers().eval())
    assert {f.name: f.verdict for f in found.results if f.verdict != "ok"} == {"normalisation": "warn"}
    assert not found.refused
    assert found.victim is not None
    assert found.victim(X, exact, image_keys(0, IDS)).shape == (12, 10)
    assert "\n" not in str(found["mode"])
    assert len(str(found).splitlines()) == len(found.results)


MISTAKES: dict[str, tuple[Any, str, str, str]] = {
    "train mode": (lambda: layers().train(), "mode", r"the model \(Sequential\) in train mode", "eval"),
    "one batch-norm in train mode": (
        lambda: nn.ModuleList([layers().eval()]).eval() and _one_in_train_mode(), "mode", r"'1' \(BatchNorm2d\)", "eval"
    ),
    "half precision": (lambda: layers().eval().half(), "precision", r"float16.*'0' \(Conv2d\)", r"float\(\)"),
    "prints": (lambda: layers(Function(printing)).eval(), "prints", r"from '5' \(Function\)", "take the print out"),
    "remembers": (lambda: layers(Remembers()).eval(), "state and noise", r"'5' \(Remembers\) remembers", "from rest"),
    "draws noise": (lambda: layers(Function(lambda x: x + torch.randn_like(x))).eval(), "state and noise",
                    r"noise is drawn in '5' \(Function\)", "eval mode"),
    "keeps graphs": (lambda: layers(KeepsGraphs()).eval(), "graphs", r"in '5' \(KeepsGraphs\)", "detach"),
    "softmax": (lambda: layers(nn.Softmax(1)).eval(), "output", "probabilities", "take the softmax out"),
    "statistics of the batch": (lambda: nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), *layers()).eval(),
                                "images apart", r"mixed in '0' \(BatchNorm2d\)", "running statistics"),
    "axes swapped inside": (lambda: Swapped().eval(), "images apart",
                            r"mixed in 'inner.neuron' \(Leaky\)", "time first"),
    "cuts the graph in a module": (lambda: nn.Sequential(Function(lambda x: (x > 0.5).float()), *layers()).eval(),
                                   "gradient", r"cut in '0' \(Function\)", "encoder=Direct"),
    "cuts the graph in its forward": (lambda: Cuts().eval(), "gradient",
                                      r"cut in the forward of the model \(Cuts\), before 'inner.0' \(Conv2d\)",
                                      "no detach"),
    "cuts the graph at its end": (lambda: layers(Function(torch.round), Function(torch.Tensor.detach)).eval(),
                                  "gradient", r"cut in '6' \(Function\)", "surrogate"),
    "an encoder without a slope": (lambda: nn.Sequential(Function(torch.sign), *layers()).eval(), "gradient",
                                   r"exactly 0 for every image: it ends in '0' \(Function\)", "encoder=Direct"),
    "rounds in its forward": (lambda: Cuts(torch.round).eval(), "gradient",
                              r"it ends in the forward of the model \(Cuts\), before 'inner.0'", "round"),
    "not finite": (lambda: layers(Function(lambda x: x / 0)).eval(), "call", "NaN or infinity", "weights"),
    "no logits": (lambda: nn.Conv2d(1, 3, 3).eval(), "layout", r"shape \(7, 3, 6, 6\)", "readout"),
    "fails": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3, 3)).eval(), "layout", r"RuntimeError in '1' \(Linear\)",
              "shape of one image"),
    "no path without CUDA": (lambda: layers(NeedsCuda()).eval(), "layout", r"RuntimeError in '5' \(NeedsCuda\)",
                             "CPU path"),
}  # fmt: skip


@pytest.mark.parametrize(
    "given", [{"shape": (10**6, 10**6, 3)}, {"steps": 10**9}, {"steps": 0}, {"steps": -1}], ids=str
)
def test_what_no_machine_can_hold_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"the shape of one image|steps in 1\.\."):
        check(layers().eval(), **given)


class Cuts(nn.Module):
    """Its own encoder is no module."""

    def __init__(self, encode: Any = torch.Tensor.detach) -> None:
        super().__init__()
        self.inner, self.encode = layers(), encode

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.encode(x))  # type: ignore[no-any-return]


def _one_in_train_mode() -> nn.Module:
    model = layers().eval()
    model[1].train()
    return model


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_refused_with_its_module_and_its_mend(name: str) -> None:
    make, question, says, mend = MISTAKES[name]
    found = asked(make)
    assert found.refused
    assert found.victim is None
    assert found[question].verdict == "refuse"
    assert re.search(says, found[question].says), found[question].says
    assert re.search(mend, found[question].mend), found[question].mend


def test_weights_that_are_nowhere_end_the_questions() -> None:
    found = check(seeded(lambda: layers(nn.Linear(10, 10, device="meta")).eval()), X)
    assert [f.name for f in found.results if f.verdict == "refuse"] == ["device", "copy"]
    assert "meta: 'weight' of '5' (Linear)" in found["device"].says
    assert "load the weights" in found["device"].mend


@pytest.mark.parametrize("convert", [nn.Module.double, nn.Module.half])
def test_the_users_own_weights_are_left_in_their_precision(convert: Any) -> None:
    """The copy is converted to that of the images; the network's tensors stay where and what they were."""
    model = convert(seeded(layers).eval())
    before = {name: (t.dtype, t.data_ptr(), t.clone()) for name, t in model.state_dict().items()}
    found = check(model, X)
    assert found["precision"].verdict == "refuse"
    assert found["call"].verdict == "ok"
    for name, tensor in model.state_dict().items():
        dtype, place, value = before[name]
        assert (tensor.dtype, tensor.data_ptr()) == (dtype, place)
        assert torch.equal(tensor, value)
    assert model(X.to(model[0].weight.dtype)).dtype == model[0].weight.dtype


def test_images_of_half_precision_are_refused_and_the_rest_is_asked_in_single() -> None:
    found = check(seeded(layers).eval().half(), X.half())
    assert [f.name for f in found.results if f.verdict == "refuse"] == ["precision"]
    assert "images of float32 or float64, got torch.float16" in found["precision"].says
    assert "images.float() and model.float()" in found["precision"].mend


def test_several_mistakes_are_found_at_once() -> None:
    found = asked(lambda: layers(Function(printing), nn.Softmax(1)).half())
    assert [f.name for f in found.results if f.verdict == "refuse"] == ["mode", "precision", "prints", "output"]


LAYOUTS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "images": (layers, {}, r"takes images \(N,C,H,W\), .*returns logits \(N,10\); wrap\(model, images\)"),
    "time first": (
        Timed,
        {},
        r"time first, \(T,N,C,H,W\); returns logits \(T,N,10\); .*steps=T, step_mode='m'\), tried",
    ),
    "time first, averaged": (lambda: Timed(mean=True), {}, r"time first.* returns logits \(N,10\)"),
    "batch first": (
        lambda: Timed(1),
        {"steps": 6},
        r"batch first.*logits \(N,T,10\), averaged.*steps=6, step_mode='m'",
    ),
    "batch first, averaged": (lambda: Timed(1, mean=True), {}, r"batch first, \(N,T,C,H,W\); returns logits \(N,10\)"),
    "as many steps as images": (Timed, {"steps": 7}, r"time first"),
    "one step a call": (Steps, {"steps": 3}, r"one step a call, .*steps=3, step_mode='s'"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_time_axis_is_found_and_stated_and_what_is_stated_wraps(name: str) -> None:
    make, options, says = LAYOUTS[name]
    found = asked(lambda: make().eval(), **options)
    assert re.search(says, found["layout"].says), found["layout"].says
    assert not found.refused
    assert found.victim is not None
    modes: dict[str, Literal["m", "s"] | None] = {"images": None, "all_steps": "m", "batch_first": "m", "steps": "s"}
    mode = modes[found.victim.body.feed]
    model = seeded(lambda: make().eval())
    again = spikeproof.wrap(model, X, steps=found.victim.steps if mode else None, step_mode=mode)
    assert again.body.feed == found.victim.body.feed


def test_a_time_axis_that_the_network_does_not_have_is_refused() -> None:
    found = asked(lambda: HasItsOwn().eval(), steps=4)
    assert found["layout"].verdict == "refuse"
    assert found["layout"].mend.startswith("leave steps away")
    assert asked(lambda: Timed().eval(), step_mode="s")["layout"].verdict == "refuse"


class HasItsOwn(nn.Module):
    """Takes images alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Timed()

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 4
        out = self.inner(x[None].repeat(5, 1, 1, 1, 1))
        if self.training:
            return out  # type: ignore[no-any-return]
        return out.mean(0)  # type: ignore[no-any-return]


def test_wrap_says_that_a_network_needs_a_time_axis() -> None:
    with pytest.raises(SpikeproofError, match=r"the number of steps.*steps=T, step_mode='m'"):
        spikeproof.wrap(seeded(Timed).eval(), X)


def test_swapped_axes_and_batch_statistics_are_refused_by_wrap() -> None:
    for make, where in ((Swapped, "'inner.neuron'"), (MISTAKES["statistics of the batch"][0], "'0'")):
        with pytest.raises(SpikeproofError, match=rf"others in its batch.*mixed in {where}"):
            spikeproof.wrap(seeded(make).eval(), X)


@cache
def trained() -> nn.Sequential:
    def make() -> nn.Sequential:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
        optimiser = torch.optim.Adam(model.parameters(), 1e-2)
        for k in range(60):
            x, y, _ = digits(32, first=(32 * k) % 1400, split="train")
            optimiser.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimiser.step()
        model.zero_grad()
        return model.eval()

    return seeded(make)  # type: ignore[no-any-return]


def grey(normalise: Any = None) -> nn.Sequential:
    """Tells dark images (class 0) from bright ones (class 1), in units in which 0 is in the middle."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 64))
    return model if normalise is None else nn.Sequential(Function(normalise), *model).eval()


def test_a_normalisation_outside_the_network_is_found_by_its_labels() -> None:
    """Pixels in [0,1] all look bright to it: half of them right by its own code, all of them after (x - 0.5) / 0.5."""
    bright = (0.02 + 0.96 * torch.arange(30) / 29).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    labels = (bright[:, 0, 0, 0] > 0.5).long()
    found = check(grey(), bright, labels)["normalisation"]
    assert found.verdict == "refuse"
    assert re.search("50 % right on them, and 100 % after", found.says)
    assert "first layer" in found.mend
    inside = check(grey(lambda x: (x - 0.5) / 0.5), bright, labels)["normalisation"]
    assert inside.verdict == "ok"
    assert inside.says.startswith("inside: '2' (Linear) gets values from -0.96 to 0.96")
    assert check(grey(), bright)["normalisation"].verdict == "warn"
    x, y, _ = digits(100)
    assert check(trained(), x, y)["normalisation"].verdict == "ok"


def test_labels_that_are_not_met_are_a_warning() -> None:
    model = trained()
    x, y, _ = digits(100)
    assert check(model, x, y)["accuracy"].verdict == "ok"
    assert check(model, x, (y + 1) % 10)["accuracy"].verdict == "warn"


def test_random_images_of_a_shape_that_fits_stand_in() -> None:
    model = seeded(layers).eval()
    assert "random images (1, 8, 8)" in check(model)["layout"].says
    assert "random images (1, 8, 8)" in check(model, shape=(1, 8, 8))["layout"].says
    assert check(model, shape=(3, 8, 8))["layout"].verdict == "refuse"
    with pytest.raises(UsageError, match=r"\(C,H,W\)"):
        check(model, shape=(8, 8))
    with pytest.raises(UsageError, match="two images"):
        check(model, X[:1])
    with pytest.raises(UsageError, match="one label"):
        check(model, X, Y[:3])


def test_a_callable_is_checked_as_a_black_box() -> None:
    model = seeded(layers).eval()
    found = check(lambda x: model(x), X)
    assert found["gradient"].verdict == "warn"
    assert not found.refused


# --- the command ---


@pytest.fixture
def network_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module with factories, importable from its folder."""
    (tmp_path / "nets_of_mine.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "def sound():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()\n\n"
        "def softmax():\n    return nn.Sequential(sound(), nn.Softmax(1)).eval()\n\n"
        "def raises():\n    raise KeyError('no such layer')\n\n"
        "def nothing():\n    return None\n\n"
        "network = sound()\nnumber = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("nets_of_mine", None)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["check", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_exit_codes(network_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "nets_of_mine:sound", "--images", "digits", "--count", "20")
    assert code == 0
    assert all(line.split()[0] in ("ok", "warn") for line in out.splitlines())
    assert run(capsys, "nets_of_mine:network")[0] == 0
    _, out, _ = run(capsys, "nets_of_mine:sound", "--images", "digits", "--count", "20", "--accuracy", "0.999")
    assert re.search(r"accuracy .*the 99\.9 % of its owner", out), out
    code, out, _ = run(capsys, "nets_of_mine:softmax", "--shape", "1,8,8")
    assert code == 3
    assert "\nrefuse  output            expected logits, got probabilities" in out
    code, out, _ = run(capsys, "nets_of_mine:raises")
    assert code == 3
    assert out.startswith("refuse  factory")
    assert "KeyError: 'no such layer' (nets_of_mine.py, line 12); to mend: a function without arguments" in out
    assert run(capsys, "nets_of_mine:nothing")[0] == 3
    for arguments, message in {
        ("nets_of_mine",): "package.module:factory",
        ("nets_of_mine:missing",): "'missing'; valid: ",
        ("no_such_module_here:make",): "ModuleNotFoundError",
        ("nets_of_mine:number",): "a function or class",
        ("nets_of_mine:sound", "--shape", "8"): "(C,H,W)",
        ("nets_of_mine:sound", "--shape", "a,b"): "--shape",
    }.items():
        code, out, err = run(capsys, *arguments)
        assert (code, out) == (2, "")
        assert message in err


def test_weights_are_loaded_strictly(network_file: Path) -> None:
    fitting = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))).state_dict()
    save_file(fitting, network_file / "w.safetensors")
    torch.save(fitting, network_file / "w.pt")
    torch.save({"epoch": 3, "net": {f"module.{name}": t for name, t in fitting.items()}}, network_file / "parallel.pt")
    for name in ("w.safetensors", "w.pt", "parallel.pt"):
        found = check_path("nets_of_mine:sound", X, weights=network_file / name)
        assert re.fullmatch(f"2 tensors of {name}.*, every name and shape", found["weights"].says)
        assert found.victim is not None
        assert torch.equal(found.victim.body.network[1].weight, fitting["1.weight"])  # type: ignore[index]
    save_file({"1.weight": fitting["1.weight"]}, network_file / "part.safetensors")
    (network_file / "torn.pt").write_bytes(b"PK\x03\x04")
    torch.save({1: fitting["1.weight"]}, network_file / "numbered.pt")
    nested = torch.nested.nested_tensor([torch.zeros(64)] * 10, layout=torch.jagged)
    torch.save({"1.weight": nested, "1.bias": fitting["1.bias"]}, network_file / "nested.pt")
    (network_file / "folder.pt").mkdir()
    with ZipFile(network_file / "small.pt", "w", ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", b"\0" * 10_000_000)
    for name, says in (
        ("part.safetensors", "1.bias is missing"), ("torn.pt", "a state dict"), ("none.pt", "no such file"),
        ("numbered.pt", "a state dict"), ("small.pt", "a compressed file, which torch does not write"),
        ("nested.pt", "nested, quantised, sparse"), ("folder.pt", "a folder"),
    ):  # fmt: skip
        found = check_path("nets_of_mine:sound", X, weights=network_file / name)
        assert found["weights"].verdict == "refuse"
        assert says in found["weights"].says


class Bomb:
    """Unpickled with code execution, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("save", [torch.save, lambda tree, path: path.write_bytes(pickle.dumps(tree))])
def test_a_checkpoint_never_runs_code(network_file: Path, save: Any) -> None:
    trace = network_file / "trace"
    save({"1.weight": Bomb(trace)}, network_file / "bomb.pt")
    found = check_path("nets_of_mine:sound", X, weights=network_file / "bomb.pt")
    assert not trace.exists()
    assert found["weights"].verdict == "refuse"
    assert "save_file" in found["weights"].mend
    pickle.loads(pickle.dumps(Bomb(trace)))
    assert trace.exists()  # it would have


def test_an_encoder_can_be_given() -> None:
    model = seeded(Timed).eval()
    found = check(model, X, steps=5, encoder=Latency())
    assert not found.refused
    assert found.victim is not None
    assert isinstance(found.victim.encoder, Latency)
