"""Who is told of events by a POST, as they come."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request, Response

from forestall.ports.webhook_book import Webhook
from forestall.service.api import documents as doc
from forestall.service.api.asking import OF_A_CHANGE, AdminOfAll, After, Limit, Name, page, router
from forestall.service.api.hooks import Webhooks
from forestall.service.api.problems import Refused, answers

routes = router()


def webhooks_of(request: Request) -> Webhooks:
    """All webhooks."""
    found: Webhooks = request.app.state.webhooks
    return found


All = Annotated[Webhooks, Depends(webhooks_of)]


@routes.get("/webhooks", tags=["events"])
def list_webhooks(caller: AdminOfAll, webhooks: All, after: After = None, limit: Limit = 100) -> doc.Page[doc.Webhook]:
    """Everybody who is told of events, and how that goes."""
    found = [doc.Webhook(**_plain(each), sent=n, given_up=m, fault=why) for each, n, m, why in webhooks.views()]
    return doc.Page[doc.Webhook](**page(found, lambda each: each.name, after, limit))


@routes.post("/webhooks", tags=["events"], status_code=201, responses=answers(*OF_A_CHANGE))
def create_webhook(new: doc.NewWebhook, caller: AdminOfAll, webhooks: All, response: Response) -> doc.MadeWebhook:
    """Tell somebody of events from now on, each by a signed POST, again and again for a minute until it is taken (2xx).

    First, and whenever the API was started anew, comes `reset`: look at everything.
    """
    response.headers["Cache-Control"] = "no-store"  # nor is it kept to be answered again
    made = webhooks.create(new.name, new.url, new.kinds, new.groups, caller.name)
    return doc.MadeWebhook(**_plain(made), sent=0, given_up=0, fault="", secret=made.secret)


@routes.delete("/webhooks/{name}", tags=["events"], status_code=204, responses=answers(404, *OF_A_CHANGE))
def remove_webhook(name: Name, caller: AdminOfAll, webhooks: All) -> None:
    """Tell somebody no more."""
    if not webhooks.remove(name):
        raise Refused(404, f"there is no webhook {name!r}")


def _plain(webhook: Webhook) -> dict[str, Any]:
    """What may be shown of it."""
    return {
        "name": webhook.name,
        "url": webhook.url,
        "kinds": list(webhook.kinds),
        "groups": None if webhook.groups is None else list(webhook.groups),
        "by": webhook.by,
        "created_at": webhook.created_at,
    }
