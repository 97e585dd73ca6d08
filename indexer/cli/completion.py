"""What a shell may complete, and the line that teaches it to."""

import click
from click.shell_completion import get_completion_class

from indexer import settings
from indexer.cli import chains
from indexer.decode import Decoder
from indexer.errors import ConfigError
from indexer.methodology.definition import presets
from indexer.perp_feeds import FEEDS

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_INDEXER_COMPLETE"  # as click names it after the command

_OF_NO_CHAIN = ("hyperliquid", "dydx", *FEEDS)


def venues(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Venues and chains that begin with this, those left out that the line has already."""
    named = ctx.params.get(param.name or "") or ()
    return [name for name in _names() if name.startswith(incomplete) and name not in named]


def _names() -> list[str]:
    try:
        known = Decoder(chains.specs_of(settings.read())).venues()
    except ConfigError:  # the command itself will say so
        return []
    return sorted({*known, *map(chains.chain_of, known), *_OF_NO_CHAIN})


def definitions(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Definitions that come with the indexer, and begin with this."""
    return [name for name in presets() if name.startswith(incomplete)]


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes a shell complete commands, options, venues and definitions.

    bash: eval "$(indexer completion bash)" in ~/.bashrc; zsh the same in ~/.zshrc; fish: indexer
    completion fish > ~/.config/fish/completions/indexer.fish

    Example: indexer completion bash
    """
    kind = get_completion_class(shell)
    assert kind is not None  # the three are click's own
    click.echo(kind(ctx.find_root().command, {}, "indexer", VARIABLE).source())
