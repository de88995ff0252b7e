"""`dilithion-ws watch` against a server in this process."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import pytest

from dilithion_ws import Config, RpcTable, WebSocketServer
from dilithion_ws.cli.event_lines import EventLines, clean
from dilithion_ws.client import Event, Position

from ..support import free_port, wait_for
from ..support.accounts import write_users
from ..support.fixtures import Run, ServerFactory


def price(amount: int) -> dict[str, object]:
    return {"kind": "added" if amount % 2 else "removed", "amount": amount, "text": "a b"}


@pytest.fixture
def feed(start: ServerFactory) -> tuple[str, ...]:
    """Options to watch the three events of the topic `prices`, from the first on."""
    server = start()
    topic = server.topic("prices", permission="READ_BLOCKCHAIN", filters={"amount": "amount"})
    for amount in (1, 2, 3):
        server.publish("prices", price(amount))
    return ("prices", "--url", server.url, "--since", f"{topic.log.position.epoch}:1")


def test_events_are_printed_one_a_line(run: Run, feed: tuple[str, ...]) -> None:
    status, output, _ = run("watch", "--count", "2", *feed)
    assert status == 0
    lines = output.splitlines()
    assert [re.sub(r"^\d\d:\d\d:\d\d", "TIME", line) for line in lines] == [
        "TIME  prices  removed       amount=2  text=a b",
        "TIME  prices  added         amount=3  text=a b",
    ]


def test_events_are_printed_as_json(run: Run, feed: tuple[str, ...]) -> None:
    event = json.loads(run("watch", "--count", "1", "--json", *feed)[1])
    assert (event["topic"], event["seq"], event["event"]) == ("prices", 2, price(2))


@pytest.mark.parametrize("has_hash", [True, False])
def test_it_begins_after_a_block(run: Run, start: ServerFactory, has_hash: bool) -> None:
    def read(height: int, count: int) -> list[dict[str, object]]:
        heights = range(height, min(height + count, 6))
        members = {"previousblockhash": "00", "time": 1, "tx_count": 1}
        return [
            {"height": at, "hash": f"{at:064x}", **members, "previousblockhash": f"{at - 1:064x}"} for at in heights
        ]

    server = WebSocketServer(RpcTable(), Config(port=0))
    server.history("blocks", read)
    with server:
        since = f"3:{3:064x}" if has_hash else "3"
        status, output, _ = run("watch", "blocks", "--url", server.url, "--since", since, "--count", "1", "--json")
    assert (status, json.loads(output)["event"]["height"]) == (0, 4)


def test_a_filter_is_sent(run: Run, feed: tuple[str, ...]) -> None:
    output = run("watch", "--count", "1", "--filter", '{"amount": 3}', *feed)[1]
    assert "amount=3" in output


def test_colours_are_for_a_terminal(run: Run, feed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "\033[31mremoved     \033[0m" in run("watch", "--count", "1", *feed)[1]


def test_the_newest_event_is_enough_for_latest(run: Run, feed: tuple[str, ...]) -> None:
    assert "amount=3" in run("watch", "--count", "1", "--latest", *feed)[1]


def test_lost_events_are_reported(run: Run, start: ServerFactory) -> None:
    server = start()
    server.topic("prices", permission="READ_BLOCKCHAIN")
    is_over = threading.Event()

    def publish() -> None:
        while not is_over.wait(0.02):
            server.publish("prices", price(1))

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        status, output, errors = run("watch", "prices", "--url", server.url, "--since", "another:1", "--count", "1")
    finally:
        is_over.set()
        publisher.join()
    assert status == 0
    assert "prices  added" in output
    assert "events of prices are lost" in errors


def test_interrupting_ends_it(run: Run, feed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dilithion_ws.cli.watch_command._print", interrupt)
    assert run("watch", *feed)[0] == 0


def test_a_subscription_that_the_server_ends_exits_with_1(
    run: Run, start: ServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user loses a permission after the client has printed an event, so that it knows of its subscription."""
    path = tmp_path / "users.json"
    write_users(path, reader="wallet")
    server = start(users_file=str(path))
    conf = tmp_path / "client.conf"
    conf.write_text("rpcuser=reader\nrpcpassword=readerreader\n")
    server.topic("prices", permission="WRITE_WALLET")
    printed = threading.Event()
    monkeypatch.setattr("dilithion_ws.cli.watch_command._print", lambda *arguments: printed.set())
    demoter = threading.Thread(target=lambda: _demote_once_printed(server, path, printed))
    demoter.start()
    status, _, errors = run("watch", "prices", "--url", server.url, "--conf", str(conf))
    demoter.join()
    assert status == 1
    assert "you may not read this any more" in errors


def _demote_once_printed(server: WebSocketServer, path: Path, printed: threading.Event) -> None:
    wait_for(lambda: server.statistics().topics["prices"].subscriptions)
    server.publish("prices", {})
    assert printed.wait(10)
    write_users(path, reader="readonly")
    assert server.reload()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nosuch"], "there is no topic 'nosuch'"),
        (["blocks", "--filter", "{"], "--filter is not JSON"),
        (["blocks", "--filter", "[]"], "--filter takes an object"),
        (["blocks", "--since", "x"], "--since is 'x'; it takes HEIGHT, HEIGHT:HASH with the whole hash, or EPOCH:SEQ"),
        (["blocks", "--since", "114:00f72845…11b2b8eb"], "with the whole hash"),
        (["blocks", "--since", "114:abc"], "with the whole hash"),
        (["blocks", "peers", "--since", "x:1"], "goes with one topic"),
    ],
)
def test_what_cannot_be_watched_exits_with_1(run: Run, url: tuple[str, str], arguments: list[str], words: str) -> None:
    status, _, errors = run("watch", *arguments, *url)
    assert status == 1
    assert words in errors


def test_without_a_server_it_fails_at_once(run: Run) -> None:
    status, _, errors = run("watch", "blocks", "--url", f"ws://127.0.0.1:{free_port()}")
    assert status == 1
    assert errors.endswith("Connection refused; is the server running?\n")


def test_a_lost_connection_is_reported_and_nothing_is_missed(
    run: Run, start: ServerFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The server is restarted with its events, while the command runs."""
    port = free_port()
    options = {"port": port, "event_store": f"sqlite:{tmp_path / 'events.db'}"}
    first = start(**options)
    first.publish("mining", {"kind": "started", "threads": 1})
    wait_for(lambda: first.events.topic("mining").log.position.seq == 1)
    since = f"{first.events.topic('mining').log.position.epoch}:0"

    def restart() -> None:
        wait_for(lambda: first.statistics().topics["mining"].subscriptions)
        wait_for(lambda: first.statistics().topics["mining"].max_lag == 0)
        first.stop(2.0)
        start(**options).publish("mining", {"kind": "stopped"})

    thread = threading.Thread(target=restart)
    thread.start()
    with caplog.at_level("INFO", "dilithion_ws.client"):
        status, output, _ = run("watch", "mining", "--url", first.url, "--since", since, "--count", "2")
    thread.join()
    assert status == 0
    assert [line.split()[2] for line in output.splitlines()] == ["started", "stopped"]
    assert "the connection was lost" in caplog.text
    assert "connected again" in caplog.text


HASH = "00" * 4 + "ab" * 24 + "cd" * 4


def event(data: object, topic: str = "blocks") -> Event:
    return Event(topic, 1, "e", data, Position("e", 1))


def lines_of(data: object, width: int | None = None) -> str:
    return EventLines(["blocks", "transactions"], width, has_colours=False).line(event(data), 0.0)[8:]


def test_lines_have_columns_and_the_most_important_members_first() -> None:
    data = {"kind": "connected", "tx_count": 3, "previousblockhash": HASH, "hash": HASH, "height": 7}
    assert lines_of(data) == "  blocks        connected     height=7  hash=00000000…cdcdcdcd  tx_count=3"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"kind": "x", "txids": ["a"] * 6}, "txids=[6 items]"),
        ({"kind": "x", "txids": [HASH]}, 'txids=["00000000…cdcdcdcd"]'),
        ({"kind": "x", "text": "a\x1b[0m"}, "text=a\\x1b[0m"),
        ("only a text", "only a text"),
        ({"kind": "x", "": None}, "null"),
    ],
)
def test_values_are_short_and_printable(data: object, words: str) -> None:
    assert lines_of(data).endswith("  " + words)


def test_a_line_is_cut_to_the_width_of_the_terminal() -> None:
    line = EventLines(["blocks"], 60, has_colours=True).line(event({"kind": "connected", "text": "x" * 200}), 0.0)
    assert len(re.sub("\033\\[\\d+m", "", line)) == 60
    assert line.endswith("…")


def test_unprintable_characters_are_escaped() -> None:
    assert clean("a\x1b[0m\tb\nc") == "a\\x1b[0m\tb\nc"
