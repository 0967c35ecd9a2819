from decimal import Decimal

import pytest

from stillhouse.catalogue.catalogue import Catalogue
from stillhouse.catalogue.demo_models import DEMO_FALLBACKS
from stillhouse.errors import ConfigError, ModelNotFoundError
from stillhouse.text.families import FAMILIES
from stillhouse.types.sampling import SamplingParams
from tests.unit.text.checkpoints import tariff

DEMO = "stillhouse/demo-r1"
R1_70B = "deepseek-ai/DeepSeek-R1-Distill-Llama-70B"
V31 = "deepseek-ai/DeepSeek-V3.1"
OWN = {
    "family": "plain",
    "checkpoint": "models/own",
    "usd_per_million_tokens": {"input": "0.1", "output": "0.2"},
}


@pytest.mark.parametrize(
    ("model_id", "price", "context_length"),
    [
        (
            DEMO,
            tariff(200_000, 200_000, 600_000),
            None,
        ),
        (
            R1_70B,
            tariff(200_000, 200_000, 600_000),
            131_072,
        ),
        (
            "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
            tariff(270_000, 270_000, 270_000),
            131_072,
        ),
        (
            V31,
            tariff(270_000, 216_000, 1_000_000),
            163_840,
        ),
        ("meta-llama/Llama-3.1-8B-Instruct", tariff(30_000, 30_000, 50_000), 131_072),
        ("meta-llama/Llama-3.3-70B-Instruct", tariff(230_000, 230_000, 400_000), 131_072),
        ("Qwen/Qwen2.5-7B-Instruct", tariff(40_000, 40_000, 100_000), 32_768),
        ("Qwen/Qwen3-8B", tariff(40_000, 40_000, 160_000), 40_960),
    ],
)
def test_built_in_models_have_their_published_price_and_context(model_id, price, context_length):
    """Prices per million tokens are held in pico-dollars per token."""
    spec = Catalogue.load().resolve(model_id, loaded={model_id})

    assert (model_id, price, context_length) == (spec.id, spec.price, spec.context_length)


def test_tags_say_what_a_models_family_can():
    """Clients read from the tags whether tools can be offered and reasoning turned off."""
    for spec in Catalogue.load().specs:
        family = FAMILIES[spec.family]
        thinks = family.reasoning is not None

        assert (family.call_form is not None) == ("tools" in spec.tags)
        assert [thinks, thinks, not thinks] == [
            tag in spec.tags for tag in ("reasoning", "can-disable-reasoning", "non-reasoning")
        ]
        assert {"chat", "json"} <= set(spec.tags)


def test_recommended_sampling_is_the_makers():
    """R1's makers recommend temperature 0.6 and top-p 0.95."""
    spec = Catalogue.load().resolve(DEMO, loaded={DEMO})

    assert SamplingParams(temperature=0.6, top_p=0.95) == spec.recommended


@pytest.mark.parametrize("name", [DEMO, "demo-r1", f"{DEMO}:1", "demo-r1:1"])
def test_id_alias_and_version_lead_to_the_same_model(name):
    """A model answers to its id and aliases, with or without its version."""
    assert DEMO == Catalogue.load().resolve(name, loaded={DEMO}).id


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt-5", f"There is no model 'gpt-5'. Models here: {DEMO}."),
        ("", f"There is no model ''. Models here: {DEMO}."),
        (V31, f"{V31} is in the catalogue, but not served here. Models here: {DEMO}."),
        (f"{DEMO}:2", f"{DEMO} has version '1' here, not '2'. Models here: {DEMO}."),
        (f"{DEMO}:", f"{DEMO} has version '1' here, not ''. Models here: {DEMO}."),
        (f"{V31}:x", f"{V31} has no versions here, not 'x'. Models here: {DEMO}."),
        (
            "deploy_id:abc",
            f"Dedicated deployments (deploy_id) are not offered here. Models here: {DEMO}.",
        ),
    ],
)
def test_names_that_lead_nowhere_say_what_is_loaded(name, message):
    """The caller learns why the model is not there and which ones are."""
    with pytest.raises(ModelNotFoundError) as caught:
        Catalogue.load().resolve(name, loaded={DEMO})

    assert message == caught.value.message


def test_a_long_unknown_name_is_not_echoed_whole():
    """An answer to a huge model name stays short."""
    with pytest.raises(ModelNotFoundError) as caught:
        Catalogue.load().resolve("x" * 1_000_000, loaded=())

    assert "There is no model '" + "x" * 100 + "'. Models here: nothing." == caught.value.message


def test_fallback_answers_for_a_model_that_is_not_loaded():
    """Started without a configuration, the seed's model id leads to the demo."""
    catalogue = Catalogue.load(fallback_models=DEMO_FALLBACKS)

    assert DEMO == catalogue.resolve(R1_70B, loaded={DEMO}).id


def test_fallback_steps_back_where_the_model_is_loaded():
    """The real model answers for itself as soon as it is there."""
    catalogue = Catalogue.load(fallback_models=DEMO_FALLBACKS)

    assert R1_70B == catalogue.resolve(R1_70B, loaded={DEMO, R1_70B}).id


def test_fallback_has_no_versions_of_the_model_it_stands_for():
    """Who asks for a version gets that model or none."""
    catalogue = Catalogue.load(fallback_models=DEMO_FALLBACKS)

    with pytest.raises(ModelNotFoundError, match="has no versions here"):
        catalogue.resolve(f"{R1_70B}:1", loaded={DEMO})


def test_fallback_must_be_in_the_catalogue():
    """A fallback model that leads nowhere is found at start-up."""
    with pytest.raises(ConfigError, match="fallback model 'a/b' for 'c/d' is not in the catalogue"):
        Catalogue.load(fallback_models={"c/d": "a/b"})


def test_own_entry_stands_beside_the_built_in_ones(tmp_path):
    """An operator's TOML file adds models, with prices read exactly from numbers or text."""
    path = tmp_path / "models.toml"
    path.write_text(
        '[models."me/own"]\n'
        'aliases = ["own"]\nfamily = "plain"\ncheckpoint = "models/own"\ntop_k = 40\n'
        'usd_per_million_tokens = { input = 0.123456, cached_input = 0, output = "0.7" }\n',
        encoding="utf-8",
    )

    catalogue = Catalogue.load(path)
    spec = catalogue.resolve("own", loaded={"me/own"})

    assert (
        "me",
        tariff(123_456, 0, 700_000),
        40,
    ) == (
        spec.owner,
        spec.price,
        spec.recommended.top_k,
    )
    assert {"me/own", DEMO, V31} < {spec.id for spec in catalogue.specs}


def test_own_entry_replaces_only_the_keys_it_gives():
    """An operator can set a price or a checkpoint without repeating the rest of an entry."""
    catalogue = Catalogue.load({R1_70B: {"checkpoint": "/models/r1"}})
    spec = catalogue.resolve(R1_70B, loaded={R1_70B})

    assert ("/models/r1", "deepseek_r1", 131_072) == (
        spec.checkpoint,
        spec.family,
        spec.context_length,
    )


@pytest.mark.parametrize("price", [0.216, Decimal("0.216"), "0.216", "0.2160"])
def test_prices_are_exact_however_they_are_written(price):
    """A float of a table read elsewhere gives the price that stood in the file."""
    own = OWN | {"usd_per_million_tokens": {"input": price, "output": "1"}}
    spec = Catalogue.load({"me/own": own}).resolve("me/own", loaded={"me/own"})

    assert 216_000 == spec.price.input_picousd


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "klingon"}, ".family is 'klingon'; right would be one of deepseek_r1, "),
        ({"family": None}, ".family is missing; right would be one of "),
        ({"usd_per_million_tokens": None}, ".usd_per_million_tokens is missing; right would be a "),
        (
            {"usd_per_million_tokens": {"input": "0.1"}},
            ".usd_per_million_tokens.output is missing; right would be USD per million tokens",
        ),
        (
            {"usd_per_million_tokens": {"input": "-1", "output": "1"}},
            ".usd_per_million_tokens.input is '-1'; right would be at least 0 USD per million",
        ),
        (
            {"usd_per_million_tokens": {"input": "1001", "output": "1"}},
            ".usd_per_million_tokens.input is '1001'; right would be at most 1000 USD per million",
        ),
        (
            {"usd_per_million_tokens": {"input": "0.0000001", "output": "1"}},
            ".usd_per_million_tokens.input is '0.0000001'; right would be at least 0 USD",
        ),
        (
            {"usd_per_million_tokens": {"input": "nan", "output": "1"}},
            ".usd_per_million_tokens.input is 'nan'; right would be USD per million",
        ),
        (
            {"usd_per_million_tokens": {"input": "1", "output": "1", "ouput": "1"}},
            ".usd_per_million_tokens: unknown key 'ouput'; known here: cached_input, input, output",
        ),
        ({"context_length": 0}, ".context_length is 0; right would be a whole number"),
        ({"context_length": True}, ".context_length is True; right would be a whole number"),
        ({"temperature": 2.5}, ".temperature is 2.5; right would be a number from 0 to 2"),
        ({"top_p": 0}, ".top_p is 0; right would be a number from 0.000001 to 1"),
        ({"aliases": "own"}, ".aliases is 'own'; right would be a list of texts"),
        ({"aliases": ["own", 7]}, ".aliases is ['own', 7]; right would be a list of texts"),
        ({"usd_per_million_tokens": 3}, ".usd_per_million_tokens is 3; right would be a table "),
        ({"reasoning_in_content": "yes"}, ".reasoning_in_content is 'yes'; right would be true or"),
        ({"checkpoint": ""}, ".checkpoint is ''; right would be a text"),
        ({"max_tokens": 5}, ": unknown key 'max_tokens'; known here: aliases, checkpoint, "),
    ],
)
def test_wrong_keys_are_named_with_what_would_be_right(changes, message):
    """A bad entry names the file, the model, the key and what would be right."""
    with pytest.raises(ConfigError) as caught:
        Catalogue.load({"me/own": OWN | changes}, source="stillhouse.toml")

    assert f'stillhouse.toml: models."me/own"{message}' in caught.value.message


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"own": OWN}, 'models."own": an id reads "owner/name"'),
        ({"me/own:1": OWN}, 'models."me/own:1": an id reads "owner/name", without ":"'),
        ({"me/own": "x"}, 'models."me/own": right would be a table'),
        ({"me/own": OWN | {"aliases": [DEMO]}}, "must not be a name of another model"),
        ({"me/own": OWN | {"aliases": ["a:b"]}}, "must not hold"),
    ],
)
def test_names_must_be_clear(entries, message):
    """A name leads to one model, and cannot be mistaken for a version."""
    with pytest.raises(ConfigError) as caught:
        Catalogue.load(entries)

    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("models = 3", "models: right would be"),
        ("[model]", "model: no such key"),
        ("[models", "is not TOML"),
        (None, "cannot be read"),
    ],
)
def test_file_that_is_no_catalogue_is_named(tmp_path, text, fault):
    """A file that is missing or not TOML is named with its fault."""
    path = tmp_path / "models.toml"
    if text is not None:
        path.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError) as caught:
        Catalogue.load(path)

    assert caught.value.message.startswith(f"{path}: {fault}")
