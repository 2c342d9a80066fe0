"""The views of the engine, of runs and of artefacts follow what the server tells."""

from tests.server.studio_records import artefact_record, engine_record, run_record


def test_the_engine_view_follows_the_engine(page, fake):
    fake.engine = {"models": [engine_record()]}
    page.click(".nav a", "Engine")
    page.sees("80.0 %", ".tile")
    assert page.run("[...document.querySelectorAll('.tile b')].map((one) => one.innerText)") == ["2", "1", "71.2", "80.0 %"]
    assert "in use 40, shared 0" in page.run("document.querySelector('.blocks').getAttribute('aria-label')")
    assert page.run("document.querySelectorAll('.blocks path').length") == 3
    assert page.run("[...document.querySelectorAll('tbody td')].map((one) => one.innerText)")[:6] == [
        "3 · 0",
        "writing",
        "800 ms",
        "512",
        "496",
        "17",
    ]
    fake.engine = {
        "models": [{**engine_record(), "running": 0, "requests": [], "blocks": {"total": 8, "tokens": 16, "map": "00123330"}}]
    }
    page.sees("Nobody is asking", timeout_s=5)
    assert (
        page.run("document.querySelector('.blocks').getAttribute('aria-label')") == "free 3, kept for reuse 1, in use 1, shared 3"
    )


def test_the_runs_view_grows_with_the_run(page, fake):
    fake.runs = [run_record(30)]
    page.click(".nav a", "Runs")
    page.sees("step 30 of 100", ".detail")
    points = "document.querySelector('.chart .faint path').getAttribute('d').split('L').length"
    assert page.until(points) == 30
    assert page.run("document.querySelectorAll('.chart .line-b circle').length") == 2
    page.sees("there was", ".timeline")
    page.sees("The ledger is closed when the run ends. So far 30,000 tokens", ".fold")
    later = run_record(60)
    later["samples"].append({"step": 50, "time": 1.0, "prompt": "Once", "text": " upon a time"})
    fake.runs = [later]
    page.sees("upon a time", ".timeline", timeout_s=6)
    assert page.run(points) == 60
    page.move(".chart", 0.5)
    page.until("!!document.querySelector('.cursor circle')")
    assert 25 < int(page.text(".readout .x").removeprefix("Step ")) < 35
    page.choose(".chart-tools .choice:nth-of-type(2) select", "tokens")
    page.sees("Tokens", ".axis-name")
    done = {
        **run_record(100),
        "state": "finished",
        "ledger": {"poems": {"documents": 12, "tokens": 3456}},
        "metrics": {"heldout_loss": 3.0},
    }
    fake.runs = [done]
    page.sees("3,456", ".fold table", timeout_s=6)


def test_a_run_can_be_chosen_while_the_list_changes(page, fake):
    """The list is asked for anew every few seconds; a press that began before and ends after is a click all the same."""
    fake.runs = [run_record(30), {**run_record(40), "name": "second"}]
    page.click(".nav a", "Runs")
    page.sees("30 %", ".side-list a[aria-current]")
    place = page.place(".side-list a", "second")
    page.mouse("mousePressed", place)
    fake.runs = [run_record(50), {**run_record(60), "name": "second"}]
    page.sees("50 %", ".side-list a[aria-current]", timeout_s=6)
    page.mouse("mouseReleased", place)
    page.sees("second", ".side-list a[aria-current]")
    page.sees("step 60 of 100", ".detail")
    assert page.run("location.hash") == "#/runs/second"


def test_the_artefact_view_shows_card_sizes_lineage_and_licences(page, fake):
    fake.artefacts = [artefact_record()]
    page.click(".nav a", "Artefacts")
    page.sees("CC0-1.0", ".facts")
    page.sees("511 MiB", ".facts")
    assert page.run("document.querySelector('.prose strong').textContent") == "small"
    assert "library_name" not in page.text(".prose")
    depth = "(one) => {let found = 0; while ((one = one.parentElement.closest('.lineage ul'))) found += 1; return found}"
    tree = page.run(
        f"[...document.querySelectorAll('.lineage .node')].map((one) => [({depth})(one), one.querySelector('b').innerText])"
    )
    assert tree == [[0, "sage"], [1, "poems"], [2, "poems.txt"], [1, "tok"]]
