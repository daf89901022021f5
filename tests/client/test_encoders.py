"""From a downloaded file to a torch module."""

from pathlib import Path

import pytest
import torch

from adadim import ClientError
from adadim.encoders import load
from adadim_core import build_encoder
from adadim_core.export import save_encoder
from adadim_core.spec.sections import ModelSpec


def test_a_downloaded_encoder_maps_images_to_r(tmp_path: Path) -> None:
    encoder = build_encoder(ModelSpec(backbone="conv_small", width=8), mean=(0.5,), std=(0.3,), image_size=8)
    save_encoder(encoder, tmp_path)
    kept: list[Path] = []

    def download(path: Path) -> Path:
        kept.append(path)
        path.write_bytes((tmp_path / "encoder.safetensors").read_bytes())
        return path

    loaded = load(download, "cpu")
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(loaded(images), encoder.eval()(images))
    assert not kept[0].exists(), "the file does not stay"


def test_what_is_no_encoder_is_said() -> None:
    def download(path: Path) -> Path:
        path.write_bytes(b"{}")
        return path

    with pytest.raises(ClientError, match="encoder"):
        load(download, "cpu")
