"""Views: seeded, bounded, unchanged when everything is off, and each operation against a plain formulation."""

import colorsys

import pytest
import torch
from torch.nn.functional import interpolate

from adadim_core.augmentation import LUMA, Augmentation, augment
from adadim_core.seeding import generator
from adadim_core.spec.sections import AugmentationSpec

FULL = Augmentation(crop_scale=(0.2, 1.0), flip=0.5, jitter=0.5, grayscale=0.2, blur=0.5, solarize=0.2)


def images(n: int = 12, channels: int = 3, size: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (n, channels, size, size), generator=generator(0, "images"), dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_views_have_shape_and_range(channels):
    x = augment(images(channels=channels), FULL, generator(1))
    assert x.shape == (24, channels, 16, 16)
    assert x.dtype == torch.float32
    assert x.min() >= 0
    assert x.max() <= 1


def test_one_seed_gives_one_result_and_every_image_and_view_its_own():
    same = images(n=1).expand(6, -1, -1, -1)
    x = augment(same, FULL, generator(1))
    assert torch.equal(x, augment(same, FULL, generator(1)))
    assert not torch.equal(x, augment(same, FULL, generator(2)))
    assert len(x.flatten(1).unique(dim=0)) == 12


@pytest.mark.parametrize("channels", [1, 3])
def test_everything_off_changes_nothing(channels):
    source = images(channels=channels)
    expected = source.float().div(255).repeat(2, 1, 1, 1)
    assert torch.equal(augment(source, Augmentation(), generator(1)), expected)
    # Nearly off runs the resampling and colour code with parameters that should do nothing.
    almost = Augmentation(flip=1e-12, jitter=1e-12, grayscale=1e-12, blur=1e-12, solarize=1e-12)
    torch.testing.assert_close(augment(source, almost, generator(1)), expected)


def test_flip_is_a_mirror_and_twice_is_nothing():
    source = images()
    flipped = augment(source, Augmentation(flip=1.0), generator(1), views=1)
    torch.testing.assert_close(flipped, source.flip(3).float() / 255)
    half = augment(source, Augmentation(flip=0.5), generator(1), views=1)
    mirrored = [(h - f).abs().max() < 1e-5 for h, f in zip(half, flipped, strict=True)]
    assert 0 < sum(mirrored) < len(mirrored)


def test_a_crop_is_the_interpolation_of_a_part():
    # The horizontal ramp i / 15 stays a ramp; its slope is the width of the crop, its middle the place.
    ramp = (torch.arange(16) * 17).to(torch.uint8).expand(64, 1, 16, 16)
    x = augment(ramp, Augmentation(crop_scale=(0.25, 0.5)), generator(1), views=1)
    y = augment(ramp.transpose(2, 3), Augmentation(crop_scale=(0.25, 0.5)), generator(1), views=1)
    width = (x[:, 0, :, 9] - x[:, 0, :, 6]).mean(dim=1) * 15 / 3
    height = (y[:, 0, 9] - y[:, 0, 6]).mean(dim=1) * 15 / 3
    assert ((width * height > 0.25 - 1e-4) & (width * height < 0.5 + 1e-4)).all()
    assert ((width / height > 3 / 4 - 1e-4) & (width / height < 4 / 3 + 1e-4)).all()
    assert width.std() > 0.02
    assert (x.diff(dim=3) > -1e-6).all()


def test_a_central_crop_agrees_with_torch(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda shape, generator: torch.full(shape, 0.5))
    source = images(size=16)
    x = augment(source, Augmentation(crop_scale=(0.25, 0.25)), generator(1), views=1)
    # A crop of half the side in the middle, doubled: torch sees the pixels beyond the crop's border only as edge.
    expected = interpolate(source[:, :, 4:12, 4:12].float() / 255, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(x[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1])


def test_grayscale_makes_channels_equal_and_keeps_luma():
    source = images()
    x = augment(source, Augmentation(grayscale=1.0), generator(1), views=1)
    luma = torch.einsum("nchw,c->nhw", source.float() / 255, torch.tensor(LUMA))
    for channel in range(3):
        torch.testing.assert_close(x[:, channel], luma, rtol=1e-4, atol=2e-4)


def test_jitter_moves_hue_and_brightness_but_leaves_a_share_alone():
    colour = torch.tensor([150, 90, 60], dtype=torch.uint8).view(1, 3, 1, 1).expand(400, 3, 4, 4)
    x = augment(colour, Augmentation(jitter=0.5), generator(1), views=1)[:, :, 0, 0]
    unchanged = ((x - torch.tensor([150, 90, 60]) / 255).abs().amax(dim=1) < 1e-3).float().mean()
    assert unchanged == pytest.approx(0.2, abs=0.06)
    hues = [colorsys.rgb_to_hsv(*pixel)[0] for pixel in x.tolist()]
    turned = [(hue - hues[0] + 0.5) % 1 for hue in hues]
    assert 0.1 < max(turned) - min(turned) < 0.3
    luma = x @ torch.tensor(LUMA)
    assert luma.max() / luma.min() > 1.5


@pytest.mark.parametrize("channels", [1, 3])
def test_contrast_keeps_the_mean_that_brightness_sets(monkeypatch, channels):
    # The draws: jitter applies, brightness and saturation stay as they are, contrast shrinks by 0.8 * 0.25.
    values = [0.5] * 6 + [0.0, 0.5, 0.0, 0.5, 0.5, 0.5, 0.5]
    monkeypatch.setattr(torch, "rand", lambda shape, generator: torch.tensor(values).expand(shape))
    source = torch.randint(60, 180, (5, channels, 8, 8), generator=generator(0), dtype=torch.uint8)
    x = augment(source, Augmentation(jitter=0.25), generator(1), views=1)
    original = source.float() / 255
    luma = torch.tensor(LUMA if channels == 3 else (1.0,))
    mean = torch.einsum("nchw,c->n", original, luma) / 64
    expected = 0.8 * original + 0.2 * mean[:, None, None, None]
    torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-4)


def test_blur_smooths_and_keeps_constants():
    source = images()
    x = augment(source, Augmentation(blur=1.0), generator(1), views=1)
    original = source.float() / 255
    assert x.diff(dim=3).abs().mean() < 0.8 * original.diff(dim=3).abs().mean()
    flat = torch.full((4, 3, 8, 8), 100, dtype=torch.uint8)
    torch.testing.assert_close(augment(flat, Augmentation(blur=1.0), generator(1), views=1), flat.float() / 255)


def test_solarize_inverts_the_bright_half():
    source = images()
    original = source.float() / 255
    x = augment(source, Augmentation(solarize=1.0), generator(1), views=1)
    assert torch.equal(x, torch.where(original >= 0.5, 1 - original, original))


def test_a_part_of_a_batch_gets_the_views_it_has_in_the_whole():
    source = images(n=12)
    whole = augment(source, FULL, generator(3)).view(2, 12, 3, 16, 16)
    part = augment(source[8:12], FULL, generator(3), total=12, offset=8).view(2, 4, 3, 16, 16)
    torch.testing.assert_close(part, whole[:, 8:12])


def test_a_setting_does_not_disturb_the_others():
    # Flips drawn with and without blur are the same ones.
    source = images()
    plain = augment(source, Augmentation(flip=0.5), generator(1))
    solarized = augment(source, Augmentation(flip=0.5, solarize=1.0), generator(1))
    torch.testing.assert_close(torch.where(plain >= 0.5, 1 - plain, plain), solarized)


def test_the_spec_overrides_field_by_field():
    default = Augmentation(crop_scale=(0.5, 1.0), jitter=0.4)
    assert default.with_spec(AugmentationSpec()) == default
    changed = default.with_spec(AugmentationSpec(crop_scale=[0.2, 0.9], flip=0.0, solarize=0.1))
    assert changed == Augmentation(crop_scale=(0.2, 0.9), jitter=0.4, solarize=0.1)
