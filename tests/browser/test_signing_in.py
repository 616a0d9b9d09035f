"""People sign in by a token or a link that works once, and have a device remember them."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from browser.visiting import Visit, a_file, fragment
from pictures import picture
from running import Server, running
from stillroom.features.gallery.sign_in_codes import SignInCodes
from stillroom.store.auth.tokens import mint_token

pytestmark = pytest.mark.slow

KEPT = "one => window[one].getItem('stillroom.token')"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("signing-in"), access_log="true") as started:
        yield started


@pytest.fixture
def code(server: Server) -> str:
    """Of a link, as `stillroom serve` prints one."""
    return SignInCodes(server.data / ".stillroom/sign-in").make()


def kept(page: Page) -> dict[str, bool]:
    """Where the browser keeps a token."""
    both = ("sessionStorage", "localStorage")
    return {where: page.evaluate(KEPT, where) is not None for where in both}


def token_field(page: Page) -> Locator:
    return page.get_by_label("Token", exact=True)


def sign_in_button(page: Page) -> Locator:
    return page.get_by_role("button", name="Sign in")


def sign_in_and_be_remembered(visitor: Visit, server: Server) -> Page:
    page = visitor.page
    visitor.go()
    page.get_by_label("Remember this device").check()
    token_field(page).fill(server.token())
    page.keyboard.press("Enter")
    expect(page.locator("#app")).to_be_visible()
    return page


def test_a_token_signs_in_and_is_kept_for_this_tab_alone(
    visitor: Visit, server: Server, folder_of_ten: str
) -> None:
    token = server.token()
    visitor.go()
    expect(visitor.text("stillroom token")).to_be_visible()
    visitor.picture("sign-in")
    visitor.sign_in(f"  {token}\n", fragment(folder_of_ten))

    visitor.expect_names(*(f"{number}.jpg" for number in range(10)))
    expect(visitor.page.locator(".cell.loaded")).to_have_count(10)
    assert token not in visitor.page.url
    kept = visitor.page.evaluate(
        "[JSON.stringify(sessionStorage), JSON.stringify(localStorage), document.cookie]"
    )
    assert [token in one for one in kept] == [True, False, False]
    visitor.page.reload()
    expect(visitor.cells).to_have_count(10)

    visitor.page.get_by_role("button", name="Sign out").click()
    expect(visitor.page.get_by_label("Token", exact=True)).to_be_focused()
    assert visitor.page.evaluate("sessionStorage.length") == 0
    visitor.page.go_back()
    expect(visitor.page.locator("#app")).to_be_hidden()


def test_messages_do_not_stay_after_signing_out(
    visitor: Visit, server: Server, folder_of_ten: str
) -> None:
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    visitor.cell("1.jpg").click(modifiers=["Control"])
    visitor.page.get_by_label("Selected images").get_by_role("button", name="Delete").click()
    visitor.page.locator(".question[open]").get_by_role("button", name="Delete", exact=True).click()
    expect(visitor.page.locator(".toast")).to_have_count(1)

    visitor.page.evaluate("document.getElementById('sign-out').click()")
    assert visitor.page.locator(".toast").count() == 0


def test_signing_out_draws_no_more_of_what_was_to_be_drawn(
    visitor: Visit, server: Server, folder_of_ten: str
) -> None:
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    expect(visitor.cells).to_have_count(10)

    drawn = visitor.page.evaluate(
        """async () => {
          dispatchEvent(new Event("scroll")); // draws in the next frame
          document.getElementById("sign-out").click();
          await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
          return document.querySelectorAll(".cell").length;
        }"""
    )
    assert drawn == 0


def test_a_token_that_is_none_is_refused_and_says_so(visitor: Visit) -> None:
    visitor.go()
    visitor.page.get_by_label("Token", exact=True).fill("not.a.token")
    visitor.page.keyboard.press("Enter")

    expect(visitor.page.get_by_role("alert")).to_contain_text("Invalid or expired token.")
    expect(visitor.page.get_by_label("Token", exact=True)).to_be_focused()


def test_that_a_token_has_ended_is_the_servers_word_whatever_the_clock_here_says(
    visitor: Visit, server: Server
) -> None:
    secret = (server.data / ".stillroom/secret").read_text().strip()
    visitor.page.clock.set_fixed_time(datetime.now(UTC) - timedelta(days=2))
    visitor.go()
    visitor.page.get_by_label("Token", exact=True).fill(
        mint_token(secret, expires_in=timedelta(hours=-1))
    )
    visitor.page.keyboard.press("Enter")

    expect(visitor.page.get_by_role("alert")).to_contain_text("This token expired on")


def test_a_token_that_ends_leads_to_another_and_what_was_begun_goes_on(
    visitor: Visit, server: Server, folder_of_ten: str
) -> None:
    began = time.monotonic()
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    expect(visitor.cells).to_have_count(10)
    lasts_s = max(15, round(5 * (time.monotonic() - began)))  # so slow is this machine just now
    visitor.page.get_by_role("button", name="Sign out").click()
    visitor.sign_in(server.token("--expires", f"{lasts_s}s"), fragment(folder_of_ten))
    expect(visitor.cells).to_have_count(10)
    visitor.cell("1.jpg").click(modifiers=["Control"])
    visitor.cell("4.jpg").click()
    # As in a tab that is not looked at: else a look for what is new may meet the end first.
    visitor.page.evaluate("Object.defineProperty(document, 'hidden', { value: true })")
    visitor.page.wait_for_function(
        """() => { const [, claims] = sessionStorage.getItem("stillroom.token").split(".");
        const { exp } = JSON.parse(atob(claims.replaceAll("-", "+").replaceAll("_", "/")));
        return Date.now() > exp * 1000 + 50; }""",
        timeout=2000 * lasts_s,
    )
    visitor.page.locator("#files").set_input_files([a_file("late.png", picture(1))])

    expect(visitor.page.get_by_role("alert")).to_contain_text("Your token expired on")
    assert visitor.page.evaluate("sessionStorage.length") == 0
    visitor.page.get_by_label("Token", exact=True).fill(server.token())
    visitor.page.keyboard.press("Enter")
    expect(visitor.cell("late.png")).to_be_visible()
    expect(visitor.cells).to_have_count(11)
    chosen = visitor.page.locator('.cell[aria-selected="true"]')
    expect(visitor.text("2 selected")).to_be_visible()
    assert [one.get_attribute("title") for one in chosen.all()] == ["1.jpg", "4.jpg"]


def test_a_link_signs_in_once_and_is_in_no_request_but_the_exchange(
    visitor: Visit, server: Server, code: str
) -> None:
    page = visitor.page
    heads: list[str] = []
    bodies: list[str] = []
    page.on("request", lambda request: heads.append(f"{request.url} {request.headers}"))
    page.on("request", lambda request: bodies.append(f"{request.method} {request.post_data}"))
    assert httpx.get(f"{visitor.url}#sign-in={code}").status_code == 200, "a preview is harmless"

    visitor.go(f"#sign-in={code}")
    expect(sign_in_button(page)).to_be_focused()
    expect(token_field(page)).to_be_hidden()
    assert page.url == visitor.url, "the address holds it no more"
    visitor.expect_accessible()
    visitor.picture("sign-in-link")
    page.keyboard.press("Enter")
    expect(page.locator("#app")).to_be_visible()

    assert kept(page) == {"sessionStorage": True, "localStorage": False}
    assert [head for head in heads if code in head] == []
    assert [body[:4] for body in bodies if code in body] == ["POST"]
    assert code not in server.logged()
    page.reload()
    expect(page.locator("#app")).to_be_visible()


def test_a_link_that_was_used_says_so_and_leaves_the_way_by_a_token(
    visitor: Visit, server: Server, code: str
) -> None:
    used = httpx.post(f"{server.url}/api/v1/sign-in", json={"code": code})
    assert used.status_code == 200
    visitor.go()
    expect(token_field(visitor.page)).to_be_focused()

    visitor.go(f"#sign-in={code}")  # into a tab that is here already
    expect(token_field(visitor.page)).to_be_hidden()
    sign_in_button(visitor.page).click()

    expect(visitor.page.get_by_role("alert")).to_contain_text("This link was used before")
    expect(token_field(visitor.page)).to_be_focused()
    token_field(visitor.page).fill(server.token())
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#app")).to_be_visible()


def test_a_link_works_again_once_the_server_is_reached(visitor: Visit, code: str) -> None:
    visitor.go(f"#sign-in={code}")
    visitor.page.context.set_offline(True)
    sign_in_button(visitor.page).click()
    expect(visitor.page.get_by_role("alert")).to_contain_text("cannot be reached")

    visitor.page.context.set_offline(False)
    sign_in_button(visitor.page).click()
    expect(visitor.page.locator("#app")).to_be_visible()


def test_a_remembered_device_is_signed_in_in_new_tabs_until_it_signs_out_in_one(
    visitor: Visit, server: Server
) -> None:
    page = sign_in_and_be_remembered(visitor, server)
    assert kept(page) == {"sessionStorage": False, "localStorage": True}

    other = page.context.new_page()
    other.goto(visitor.url)
    expect(other.locator("#app")).to_be_visible()
    other.get_by_role("button", name="Sign out").click()

    expect(page.get_by_role("alert")).to_have_text("You signed out in another tab.")
    expect(page.locator("#app")).to_be_hidden()
    expect(page.get_by_label("Remember this device")).not_to_be_checked()
    assert kept(page) == kept(other) == {"sessionStorage": False, "localStorage": False}


def test_a_link_remembers_the_device_too_and_a_used_one_falls_back_to_that(
    visitor: Visit, code: str
) -> None:
    page = visitor.page
    visitor.go(f"#sign-in={code}")
    page.get_by_label("Remember this device").check()
    sign_in_button(page).click()
    expect(page.locator("#app")).to_be_visible()
    assert kept(page) == {"sessionStorage": False, "localStorage": True}

    other = page.context.new_page()
    other.goto(f"{visitor.url}#sign-in={code}")
    sign_in_button(other).click()
    expect(other.locator("#app")).to_be_visible()


def test_a_link_for_one_tab_leaves_the_device_and_its_other_tabs_signed_in(
    visitor: Visit, server: Server, code: str
) -> None:
    page = sign_in_and_be_remembered(visitor, server)

    other = page.context.new_page()
    other.goto(f"{visitor.url}#sign-in={code}")
    sign_in_button(other).click()
    expect(other.locator("#app")).to_be_visible()
    assert kept(other) == {"sessionStorage": True, "localStorage": True}
    other.get_by_role("button", name="Sign out").click()
    expect(other.locator("#app")).to_be_hidden()

    assert kept(other) == {"sessionStorage": False, "localStorage": True}
    expect(page.locator("#app")).to_be_visible()


def test_a_used_link_in_a_tab_that_is_signed_in_signs_nobody_out(
    visitor: Visit, server: Server, code: str
) -> None:
    page = visitor.page
    httpx.post(f"{server.url}/api/v1/sign-in", json={"code": code}).raise_for_status()
    visitor.go()
    page.get_by_label("Remember this device").check()
    token_field(page).fill(server.token())
    page.keyboard.press("Enter")
    expect(page.locator("#app")).to_be_visible()

    page.evaluate("code => { location.hash = `#sign-in=${code}`; }", code)
    sign_in_button(page).click()

    expect(page.locator("#app")).to_be_visible()
    assert kept(page) == {"sessionStorage": False, "localStorage": True}


def test_a_tab_that_is_not_remembered_stays_when_another_one_signs_out(
    visitor: Visit, server: Server
) -> None:
    visitor.sign_in(server.token())
    other = visitor.page.context.new_page()
    other.goto(visitor.url)
    other.get_by_label("Remember this device").check()
    token_field(other).fill(server.token("--expires", "2h"))
    other.keyboard.press("Enter")
    expect(other.locator("#app")).to_be_visible()
    other.get_by_role("button", name="Sign out").click()
    expect(token_field(other)).to_be_focused()

    visitor.page.reload()
    expect(visitor.page.locator("#app")).to_be_visible()
