"""What each identity may do to each relation and function; what is not named here fails.

A rule speaks of rows of the identity's own organization. Rows of another one are nobody's to touch;
only the operator has the same rights in every organization.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.isolation.billing import BILLING
from tests.isolation.identities import ADMINS, MEMBERS, NONE, OPERATOR, TENANT, VIEWERS, Who


@dataclass(frozen=True)
class Rule:
    """The rights in one relation.

    Attributes:
        whose: The column that says whose a row is; None where all rows are the platform's.
        reads: Who sees rows.
        inserts: Who adds rows.
        updates: Who changes which column.
        deletes: Who removes rows.
        also_granted: Roles with the rights of readers and changers, to whom no row here answers.
        hidden: Columns that nobody reads.
        row: Members that make a copied row one that may be inserted.
        values: What a column is changed to, where null would prove nothing.
        target: Which rows changes are tried on, where not all are alike.
    """

    whose: str | None = "organization_id"
    reads: Who = NONE
    inserts: Who = NONE
    updates: Mapping[str, Who] = field(default_factory=dict)
    deletes: Who = NONE
    also_granted: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()
    row: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    target: str = "true"


def _each(who: Who, columns: str) -> dict[str, Who]:
    return dict.fromkeys(columns.split(), who)


CLOSED: Final = Rule()
PLATFORM: Final = Rule(whose=None)
USAGE: Final = Rule(reads=VIEWERS | TENANT)

RELATIONS: Final[dict[str, Rule]] = {
    "public.organizations": Rule(
        whose="id",
        reads=VIEWERS | TENANT,
        updates=_each(
            ADMINS,
            "name domain email phone address city postal_code country org_number vat_number"
            " org_number_unverified vat_number_unverified billing_email invoice_reference settings",
        ),
    ),
    "public.users": Rule(
        reads=VIEWERS,
        inserts=ADMINS,
        updates=_each(ADMINS, "name avatar_url role status"),
        row={"status": "invited", "role": "viewer"},
        values={"role": "'viewer'", "status": "'inactive'"},
        target="role = 'member' and auth_id is null",
    ),
    # Whether bytes are a picture only the application can know, so people set one through it.
    "public.organization_logos": Rule(reads=VIEWERS | TENANT),
    "public.invitations": Rule(reads=ADMINS, hidden=frozenset({"token_hash"})),
    "public.api_keys": Rule(
        reads=MEMBERS | TENANT,
        inserts=ADMINS,
        updates=_each(
            ADMINS,
            "name description scopes status not_before expires_at allowed_origins ip_whitelist"
            " metadata",
        ),
        hidden=frozenset({"key", "key_hash"}),
        row={"created_by": ""},
    ),
    "public.plans": Rule(whose=None, reads=VIEWERS | TENANT | {"nobody"}),
    # What was ever sold, and discounts nobody has been offered: the platform's own business.
    "public.plan_versions": PLATFORM,
    "public.coupons": PLATFORM,
    "public.subscriptions": Rule(reads=VIEWERS | TENANT),
    "public.subscription_terms": Rule(reads=VIEWERS | TENANT),
    "public.subscription_adjustments": Rule(reads=VIEWERS | TENANT),
    "public.coupon_redemptions": Rule(reads=VIEWERS | TENANT),
    "public.coupon_uses": Rule(reads=VIEWERS | TENANT),
    "public.invoices": Rule(reads=ADMINS | TENANT),
    "public.credit_notes": Rule(reads=ADMINS | TENANT),
    "public.payments": Rule(reads=ADMINS | TENANT),
    "public.allocations": Rule(reads=ADMINS | TENANT),
    "public.billing_profiles": Rule(reads=ADMINS | TENANT),
    "public.notifications": Rule(
        reads=VIEWERS - OPERATOR,
        updates=_each(VIEWERS - OPERATOR, "read read_at"),
        # A tenant reads them on behalf of a member, whom the matrix' tenant does not name.
        also_granted=frozenset({"tenant"}),
    ),
    "public.widget_instances": Rule(reads=VIEWERS | TENANT),
    "public.usage_analytics": USAGE,
    "public.usage_deltas": USAGE,
    "public.usage_daily": USAGE,
    "public.usage_hourly": USAGE,
    "public.usage_latencies": USAGE,
    "public.usage_visitors": USAGE,
    "public.usage_reversals": USAGE,
    "public.usage_delta_series": USAGE,
    "public.usage_daily_series": USAGE,
    "public.usage_hourly_series": USAGE,
    "public.usage_latency_rows": USAGE,
    "public.usage_raw_series": USAGE,
    "public.daily_usage_summary": USAGE,
    # Claims of event ids, places in imported files, what visitors are hashed with, and what is not
    # counted are the platform's own business.
    "public.rate_limit_windows": CLOSED,
    "public.usage_event_ids": CLOSED,
    "public.usage_imports": CLOSED,
    "public.usage_visitor_salts": CLOSED,
    "public.usage_quarantine": CLOSED,
    "public.audit_events": Rule(reads=ADMINS),
    "public.audit_heads": CLOSED,
    # Empty whenever anybody could look: it is sealed at the commit.
    "app.audit_pending": PLATFORM,
    # Of people and of the platform; what signs anybody in stands in no row that anybody reads.
    "public.sessions": PLATFORM,
    "public.sign_in_links": PLATFORM,
    "public.sign_in_limits": PLATFORM,
    "public.service_tokens": PLATFORM,
    "public.replies": PLATFORM,
    "public.legal_entities": PLATFORM,
    # It stands on every document.
    "public.seller_logos": Rule(whose=None, reads=VIEWERS | TENANT | {"nobody"}),
    "public.billed_months": CLOSED,
    "public.overdue_policies": PLATFORM,
    "public.overdue_exemptions": CLOSED,
    "public.overdue_steps": CLOSED,
    "public.invoice_counters": PLATFORM,
    "public.tax_rates": PLATFORM,
    "public.exchange_rates": PLATFORM,
    "public.late_interest_rates": PLATFORM,
    "app.clock": PLATFORM,
    "app.usage_policy": PLATFORM,
    "app.usage_adoptions": PLATFORM,
    "public.gate_changes": PLATFORM,
    "auth.users": PLATFORM,
    "aurora.migrations": PLATFORM,
}
# Whole schemas that nobody but the platform enters.
CLOSED_SCHEMAS: Final = {"usage_partitions": CLOSED, "pgqueuer": PLATFORM}

_EVERYBODY_SIGNED_IN: Final[Who] = VIEWERS | {"nobody"}
FUNCTIONS: dict[str, Who] = {
    "auth.jwt": _EVERYBODY_SIGNED_IN,
    "auth.uid": _EVERYBODY_SIGNED_IN,
    "app.now": _EVERYBODY_SIGNED_IN | TENANT,
    "app.refuse": _EVERYBODY_SIGNED_IN | TENANT,
    "app.touch_updated_at": _EVERYBODY_SIGNED_IN | TENANT,
    "app.is_email": _EVERYBODY_SIGNED_IN | TENANT,
    "app.currency_digits": _EVERYBODY_SIGNED_IN | TENANT,
    "app.round_money": _EVERYBODY_SIGNED_IN | TENANT,
    "app.round_quotient": _EVERYBODY_SIGNED_IN | TENANT,
    "app.set_organization": TENANT,
    "app.role_rank": _EVERYBODY_SIGNED_IN,
    "app.my_organizations": _EVERYBODY_SIGNED_IN,
    "app.my_open_organizations": _EVERYBODY_SIGNED_IN,
    "app.my_users": _EVERYBODY_SIGNED_IN,
    "app.is_operator": _EVERYBODY_SIGNED_IN,
    "app.readable_organizations": _EVERYBODY_SIGNED_IN,
    "app.visible_organizations": _EVERYBODY_SIGNED_IN | TENANT,
    "app.visible_users": _EVERYBODY_SIGNED_IN | TENANT,
    "app.usage_dimensions": _EVERYBODY_SIGNED_IN | TENANT,
    "app.latency_bounds": _EVERYBODY_SIGNED_IN | TENANT,
    "app.latency_bucket": _EVERYBODY_SIGNED_IN | TENANT,
    "app.latency_value": _EVERYBODY_SIGNED_IN | TENANT,
    "app.base62": _EVERYBODY_SIGNED_IN,
    "app.crc32": _EVERYBODY_SIGNED_IN,
    "app.is_api_key": _EVERYBODY_SIGNED_IN,
    "app.is_org_number": _EVERYBODY_SIGNED_IN,
    "app.hash_api_key": _EVERYBODY_SIGNED_IN,
    "public.generate_api_key": _EVERYBODY_SIGNED_IN,
}
# Of the platform alone. Triggers need no right to run at the time they fire.
FUNCTIONS |= dict.fromkeys(
    (
        "app.audit_actor",
        "app.audit_digest",
        "app.audit_table",
        "app.audit_columns",
        "app.audit_api_keys",
        "app.audit_billing_profiles",
        "app.audit_coupons",
        "app.audit_credit_notes",
        "app.audit_invitations",
        "app.audit_invoices",
        "app.audit_legal_entities",
        "app.audit_organizations",
        "app.audit_overdue_exemptions",
        "app.audit_overdue_policies",
        "app.audit_payments",
        "app.audit_plans",
        "app.audit_service_tokens",
        "app.audit_subscriptions",
        "app.audit_users",
        "app.audit_row_code",
        "app.audit_change_code",
        "app.audit_verb_code",
        "app.audit_function_code",
        "app.with_short_values",
        "app.record_event",
        "app.refuse_audit_change",
        "app.seal_audit",
        "app.lock_audit_head",
        "app.shortened",
        "app.without_secrets",
        "app.find_credentials",
        "app.find_person_credentials",
        "app.keeps_passwords",
        "app.make_sign_in_link",
        "app.must_keep_passwords",
        "app.note_sign_in",
        "app.set_password",
        "app.take_sign_in_attempt",
        "app.use_service_token",
        "app.use_session",
        "app.use_sign_in_link",
        "app.guard_membership",
        "app.keep_an_owner",
        "app.guard_organization",
        "app.guard_tax_numbers",
        "app.keep_billed_organization",
        "app.set_organization_logo",
        "app.set_seller_logo",
        "app.organization_transitions",
        "app.accept_invitation",
        "app.find_person",
        "app.person_account",
        "app.erase_mail",
        "app.erase_memberships",
        "app.erase_person",
        "app.erase_organization",
        "app.strip_usage",
        "app.keep_dead_keys_dead",
        "app.expire_api_keys",
        "app.take_over_limits",
        "app.touch_api_keys",
        "app.note_gate_change",
        "app.fold_gate_changes",
        "app.key_at_the_gate",
        "app.tell_of_exposed_key",
        "app.notify_members",
        "app.limit_new_key",
        "app.billing_moment",
        "app.apply_terms",
        "app.bill_adjustments",
        "app.bill_discounts",
        "app.bill_fee",
        "app.bill_usage",
        "app.change_lines",
        "app.change_plan",
        "app.check_model_tiers",
        "app.check_price_model",
        "app.count_plan_version",
        "app.coupon_factor",
        "app.end_trials",
        "app.fee_period",
        "app.guard_subscription",
        "app.insert_terms",
        "app.keep_plan_in_use",
        "app.keep_plan_version",
        "app.keep_terms",
        "app.local_days",
        "app.lock_subscription",
        "app.model_number",
        "app.moment_index",
        "app.month_of_impressions",
        "app.monthly_impressions",
        "app.net_fee",
        "app.paid_price",
        "app.pause_subscription",
        "app.planned_terms",
        "app.prorate",
        "app.rate",
        "app.rate_blocks",
        "app.rate_plain",
        "app.rate_tiers",
        "app.rate_usage",
        "app.record_coupon_uses",
        "app.redeem_coupon",
        "app.redemption_place",
        "app.refuse_version_change",
        "app.resume_subscription",
        "app.same_terms",
        "app.spread",
        "app.subscription_transitions",
        "app.terms_at",
        "app.terms_fee",
        "app.terms_months",
        "app.terms_of",
        "app.trial_end",
        "app.usage_parts",
        "app.usage_price_model",
        "app.withdraw_change",
        "app.fill_subscription_billing",
        "app.has_usage_partition",
        "app.ensure_usage_partitions",
        "app.usage_event_key",
        "app.is_successful",
        "app.open_usage_staging",
        "app.count_staged_usage",
        "app.claim_usage_singly",
        "app.count_usage",
        "app.ingest_usage",
        "app.staged_usage",
        "app.ingest_staged_usage",
        "app.fold_usage",
        "app.open_usage_folding",
        "app.take_usage_deltas",
        "app.fold_usage_counts",
        "app.fold_usage_rollups",
        "app.fold_usage_latencies",
        "app.usage_value_limit",
        "app.usage_retention",
        "app.set_usage_retention",
        "app.reopen_usage_addresses",
        "app.truncate_usage_addresses",
        "app.drop_usage_month",
        "app.drop_usage_hours",
        "app.verify_usage_counts",
        "app.verify_usage_latencies",
        "app.verify_usage_visitors",
        "app.claim_usage_reversals",
        "app.open_usage_reversing",
        "app.reverse_usage",
        "app.quarantine_usage",
        "app.check_adoptable",
        "app.stage_adopted_usage",
        "app.end_adoption",
        "app.adopt_usage",
        "app.forget_visitor_salts",
        "app.count_closed_visitors",
        "app.count_billable",
        "app.forget_usage_event_ids",
        "public.track_usage",
        "app.limit_number",
        "app.limit_slide",
        "app.limit_wait",
        "app.limit_add",
        "app.limit_time",
        "app.lock_rate_limit",
        "app.lease_requests",
        "app.return_requests",
        "app.forget_rate_limits",
        "app.quota_month",
        "app.quota_state",
        "app.warn_of_quota",
        "app.warn_of_quotas",
        *BILLING,
    ),
    NONE,
)


def rule_of(relation: str) -> Rule | None:
    """Return the rule that names a relation, or None."""
    schema = re.split(r"\.", relation, maxsplit=1)[0]
    return RELATIONS.get(relation) or CLOSED_SCHEMAS.get(schema)
