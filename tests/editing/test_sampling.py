import diffusers
import numpy as np
import pytest
import torch

from instructx2x.editing import sampling
from instructx2x.errors import InputError, ModelError

CONFIG = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "clip_sample": True,
    "some_key_of_another_scheduler": 3,
}
DETERMINISTIC = [name for name in sampling.SCHEDULERS if name != "euler-ancestral"]
EMPTY = torch.zeros(1, 2, 3)


def seeded(seed):
    return torch.randn((1, 4, 6, 6), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def z0():
    return seeded(1)


@pytest.fixture
def noise():
    return seeded(2)


@pytest.fixture
def half():
    mask = torch.zeros(6, 6, dtype=torch.bool)
    mask[:, 3:] = True
    return mask


def run(scheduler, z0, noise, mask, predict, **options):
    options = {"steps": 10, "text_guidance": 7.5, "image_guidance": 1.5, **options}
    return sampling.sample(predict, scheduler, z0, z0, EMPTY, EMPTY, mask, noise, **options)


def other(shown, t, condition, text):
    """A model that pulls the latents somewhere else."""
    return 0.5 * shown + 0.1


def recorder():
    seen = []
    return seen, lambda done, total, latents: seen.append(latents.clone())


def test_guidance_formula():
    """Method section 2."""
    text, image, none = seeded(3), seeded(4), seeded(5)
    torch.testing.assert_close(sampling.guide(text, image, none, 1, 1), text)
    torch.testing.assert_close(sampling.guide(text, image, none, 0, 1), image)
    torch.testing.assert_close(sampling.guide(text, image, none, 0, 0), none)
    expected = none + 1.5 * (image - none) + 7.5 * (text - image)
    torch.testing.assert_close(sampling.guide(text, image, none, 7.5, 1.5), expected)


def test_the_three_branches_see_the_right_conditions(z0, noise, half):
    condition, text, empty = seeded(6), torch.ones(1, 2, 3), torch.zeros(1, 2, 3)

    def predict(shown, t, conditions, texts):
        assert torch.equal(conditions, torch.cat([condition, condition, torch.zeros_like(condition)]))
        assert torch.equal(texts, torch.cat([text, empty, empty]))
        assert torch.equal(shown, shown[:1].expand(3, -1, -1, -1))
        return shown

    sampling.sample(
        predict,
        sampling.make_scheduler("ddim", CONFIG),
        z0,
        condition,
        text,
        empty,
        half,
        noise,
        steps=2,
        text_guidance=2.0,
        image_guidance=1.5,
    )


@pytest.mark.parametrize(
    ("text_guidance", "image_guidance", "branches"),
    [(7.5, 1.5, 3), (2, 1, 2), (1.5, 1.5, 2), (0, 1.5, 2), (1, 1, 1), (0, 1, 1), (0, 0, 1)],
)
def test_branches_that_cancel_are_not_computed(text_guidance, image_guidance, branches, z0, noise, half):
    """The formula with all three gives the same, up to rounding."""
    condition, text, empty = seeded(6), torch.ones(1, 2, 3), torch.zeros(1, 2, 3)
    seen = []

    def predict(shown, t, conditions, texts):
        seen.append(len(shown))
        return 0.3 * shown + 0.2 * conditions.abs() + 0.1 * texts.mean((1, 2))[:, None, None, None] * shown.sin()

    def whole(shown, conditions):
        return sampling.guide(
            predict(shown, None, conditions, text),
            predict(shown, None, conditions, empty),
            predict(shown, None, torch.zeros_like(conditions), empty),
            text_guidance,
            image_guidance,
        )

    options = {"steps": 4, "text_guidance": text_guidance, "image_guidance": image_guidance}
    scheduler = sampling.make_scheduler("ddim", CONFIG)
    edited = sampling.sample(predict, scheduler, z0, condition, text, empty, half, noise, **options)
    assert seen == [branches] * 4
    scheduler.set_timesteps(4)
    latents = scheduler.add_noise(z0, noise, scheduler.timesteps[:1])
    for index, t in enumerate(scheduler.timesteps):
        latents = scheduler.step(whole(latents, condition), t, latents).prev_sample
        kept = scheduler.add_noise(z0, noise, scheduler.timesteps[index + 1 : index + 2]) if index < 3 else z0
        latents = torch.where(half, latents, kept)
    torch.testing.assert_close(edited, latents, rtol=1e-4, atol=1e-4)


def test_what_is_blanked_is_seen_neither_in_the_condition_nor_in_the_start(z0, noise, half):
    """What is hidden of the input has no way into the result."""
    blank = torch.zeros(6, 6)
    blank[:, 4:], blank[0, 4] = 1, 0.25
    other_input = torch.where(blank == 1, 9 * seeded(7), z0)
    seen = []

    def predict(shown, t, conditions, texts):
        seen.append(conditions)
        return 0.3 * shown + 0.2 * conditions

    def edit(source, blank=None):
        scheduler = sampling.make_scheduler("dpm++", CONFIG)
        return run(scheduler, source, noise, half, predict, blank=blank)

    healed = edit(z0, blank)
    assert not seen[0][..., blank == 1].any() and torch.equal(seen[0][:2, :, 0, 4], 0.75 * z0[0, :, 0, 4].expand(2, -1))
    assert torch.equal(seen[0][:2, :, :, :4], z0[..., :4].expand(2, -1, -1, -1))
    assert torch.equal(healed, edit(other_input, blank)), "the result depends on what was hidden"
    assert not torch.equal(healed, edit(z0)) and torch.equal(healed[..., :3], z0[..., :3])
    assert torch.equal(edit(z0, torch.zeros(6, 6)), edit(z0)), "nothing hidden is no blank"


@pytest.mark.parametrize("name", sampling.SCHEDULERS)
def test_kept_region_ends_as_exactly_the_input(name, z0, noise, half):
    """Row 5: no noise is left outside the mask, whatever the scheduler."""
    generator = torch.Generator().manual_seed(0)
    edited = run(sampling.make_scheduler(name, CONFIG), z0, noise, half, other, generator=generator)
    assert torch.equal(edited[..., :3], z0[..., :3])
    assert not torch.allclose(edited[..., 3:], z0[..., 3:], atol=0.1)


def noised_to(name, steps, z0, noise):
    """z0 at the level that it has before each step, from the scheduler's own table of levels."""
    scheduler = sampling.make_scheduler(name, CONFIG)
    scheduler.set_timesteps(steps)
    if name == "ddim":
        return [scheduler.add_noise(z0, noise, t[None]) for t in scheduler.timesteps]
    variance_preserving = name != "euler"
    scales = [1 / (1 + sigma**2) ** 0.5 if variance_preserving else 1 for sigma in scheduler.sigmas]
    return [scale * (z0 + sigma * noise) for scale, sigma in zip(scales, scheduler.sigmas, strict=True)]


@pytest.mark.parametrize("steps", [10, 25, 100])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_kept_and_edited_regions_carry_the_same_noise(name, steps, z0, noise, half):
    """Row 5: for a model that knows the noise, both regions stay on one trajectory that ends at the input.

    Also with 100 steps, where several levels near the end round to one timestep.
    """
    scheduler = sampling.make_scheduler(name, CONFIG)

    def oracle(shown, t, condition, text):
        return noise.expand(3, -1, -1, -1)

    seen, callback = recorder()
    edited = run(scheduler, z0, noise, half, oracle, steps=steps, callback=callback)
    torch.testing.assert_close(edited, z0, rtol=1e-3, atol=2e-3)
    for latents, expected in zip(seen, noised_to(name, steps, z0, noise)[1:], strict=False):
        torch.testing.assert_close(latents, expected, rtol=1e-3, atol=5e-3)


def test_official_order_keeps_the_noise_of_the_step_before(z0, noise, half):
    """Row 5, left column: re-noised to t_i after a step to t_(i+1), and sigma 0.041 is left at the end."""
    scheduler = sampling.official_scheduler(CONFIG)
    seen, callback = recorder()
    edited = run(scheduler, z0, noise, half, other, steps=100, keep="same", callback=callback)
    for latents, t in zip(seen, scheduler.timesteps, strict=True):
        torch.testing.assert_close(latents[..., :3], scheduler.add_noise(z0, noise, t[None])[..., :3])
    left = (edited - scheduler.alphas_cumprod[1].sqrt() * z0)[..., :3]
    np.testing.assert_allclose((left / noise[..., :3]).numpy(), 0.041, atol=5e-4)


@pytest.mark.parametrize(("steps", "ratio"), [(100, 1.04), (20, 1.22), (10, 1.46)])
def test_the_official_order_is_worse_with_fewer_steps(steps, ratio):
    """Row 5, left column: how much more noise to its signal the kept region has, median over steps."""
    scheduler = sampling.official_scheduler(CONFIG)
    scheduler.set_timesteps(steps)
    abar = scheduler.alphas_cumprod[scheduler.timesteps]
    sigma = ((1 - abar) / abar).sqrt()
    assert (sigma[:-1] / sigma[1:]).median().item() == pytest.approx(ratio, abs=0.01)


def test_official_scheduler_whatever_the_folder_holds():
    euler = diffusers.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scheduler = sampling.official_scheduler(euler.config)
    scheduler.set_timesteps(100)
    assert isinstance(scheduler, diffusers.DDIMScheduler)
    assert scheduler.timesteps.tolist() == list(range(991, 0, -10))
    assert scheduler.final_alpha_cumprod == scheduler.alphas_cumprod[0]
    assert not scheduler.config.clip_sample


def test_any_scheduler_of_diffusers(z0, noise, half):
    given = diffusers.HeunDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    edited = run(sampling.make_scheduler(given, CONFIG), z0, noise, half, other)
    assert torch.equal(edited[..., :3], z0[..., :3])
    assert len(given.timesteps) > 1000, "the user's own object is left alone"


def test_unknown_scheduler():
    with pytest.raises(InputError, match="ddim"):
        sampling.make_scheduler("dijkstra", CONFIG)
    with pytest.raises(InputError, match="add_noise"):
        sampling.make_scheduler(diffusers.FlowMatchEulerDiscreteScheduler(), CONFIG)


def test_callback_counts_the_steps_and_can_stop(z0, noise, half):
    calls = []

    def stop(done, total, latents):
        calls.append((done, total, latents.shape))
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(sampling.make_scheduler("ddim", CONFIG), z0, noise, half, other, callback=stop)
    assert calls == [(done, 10, z0.shape) for done in (1, 2, 3)]


def test_numbers_that_are_not_finite_are_told(z0, noise, half):
    with pytest.raises(ModelError, match="float32"):
        run(sampling.make_scheduler("ddim", CONFIG), z0, noise, half, lambda shown, *_: shown * torch.nan)
