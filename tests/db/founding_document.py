"""What the founding document says of the schema, as data: values, statements, and queries."""

from __future__ import annotations

from typing import Final

# The values that each column with a fixed set of them may hold.
VALUES: Final[dict[tuple[str, str], str]] = {
    ("organizations", "status"): "trial active suspended cancelled",
    ("users", "role"): "owner admin member viewer",
    ("users", "status"): "active inactive invited",
    ("api_keys", "environment"): "test production",
    ("api_keys", "status"): "active revoked expired",
    ("api_keys", "rate_limit_tier"): "demo basic premium premium_plus",
    ("subscriptions", "billing_period"): "monthly yearly",
    ("subscriptions", "status"): "trialing active past_due paused cancelled unpaid",
    ("invoices", "status"): "draft issued sent paid credited overdue void",
    ("invoices", "payment_method"): "card invoice bank_transfer",
    ("usage_analytics", "widget_type"): "forecast map chat",
    ("widget_instances", "widget_type"): "forecast map chat",
    ("widget_instances", "status"): "active inactive",
    ("notifications", "priority"): "info warning critical",
}

DEMO_ORGANIZATION: Final = "00000000-0000-0000-0000-000000000001"

INSERT_ORGANIZATION: Final = """\
INSERT INTO organizations (id, name, slug, email, status, trial_ends_at)
VALUES (
  '00000000-0000-0000-0000-000000000001',
  'Demo Organization',
  'demo',
  'demo@example.com',
  'trial',
  NOW() + INTERVAL '30 days'
);
"""

# The document's key, 'tro_demo_test_key', breaks the document's own rule for keys.
DOCUMENTS_KEY: Final = "tro_demo_test_key"
VALID_KEY: Final = "tro_test_DemoKeyForTryingAuroraOut12uJbbW"

INSERT_API_KEY: Final = """\
INSERT INTO api_keys (
  organization_id,
  key,
  key_prefix,
  key_hash,
  name,
  environment,
  rate_limit_tier,
  rate_limit_per_hour
)
VALUES (
  '00000000-0000-0000-0000-000000000001',
  'tro_demo_test_key',
  'tro_demo_test_k',
  -- SHA-256 hash of 'tro_demo_test_key'
  encode(digest('tro_demo_test_key', 'sha256'), 'hex'),
  'Demo Test Key',
  'test',
  'demo',
  100
);
"""


def with_the_valid_key(statement: str) -> str:
    """Return the statement with its two departures: a key that is one, and core's own SHA-256.

    digest() is pgcrypto's, which is not installed everywhere; sha256() is PostgreSQL's.
    """
    digest = f"digest('{DOCUMENTS_KEY}', 'sha256')"
    assert digest in statement
    return (
        statement.replace(digest, f"sha256('{VALID_KEY}')")
        .replace(f"'{DOCUMENTS_KEY[:15]}'", f"'{VALID_KEY[:15]}'")
        .replace(f"'{DOCUMENTS_KEY}'", f"'{VALID_KEY}'")
    )


INSERT_SUBSCRIPTION: Final = """\
INSERT INTO subscriptions (
  organization_id,
  plan_id,
  plan_name,
  price_monthly,
  current_period_start,
  current_period_end,
  status,
  included_impressions
)
VALUES (
  '00000000-0000-0000-0000-000000000001',
  'demo',
  'Demo Plan',
  0.00,
  NOW(),
  NOW() + INTERVAL '30 days',
  'trialing',
  1000
);
"""

MONTHLY_IMPRESSIONS: Final = """\
SELECT
  o.name AS organization_name,
  DATE_TRUNC('month', ua.timestamp) AS month,
  COUNT(*) FILTER (WHERE ua.widget_impression = TRUE) AS impressions,
  s.included_impressions,
  GREATEST(0, COUNT(*) FILTER (WHERE ua.widget_impression = TRUE) - s.included_impressions) AS overage
FROM usage_analytics ua
JOIN organizations o ON ua.organization_id = o.id
JOIN subscriptions s ON o.id = s.organization_id
WHERE ua.timestamp >= NOW() - INTERVAL '3 months'
GROUP BY o.id, o.name, month, s.included_impressions
ORDER BY month DESC, impressions DESC;
"""

PERFORMANCE_BY_ENDPOINT: Final = """\
SELECT
  endpoint,
  COUNT(*) AS total_requests,
  AVG(response_time_ms) AS avg_response_time,
  PERCENTILE_CONT(0.95) WITHIN GROUP (ORDER BY response_time_ms) AS p95_response_time,
  COUNT(*) FILTER (WHERE status_code >= 400) AS error_count,
  ROUND(100.0 * COUNT(*) FILTER (WHERE status_code >= 400) / COUNT(*), 2) AS error_rate_pct
FROM usage_analytics
WHERE timestamp >= NOW() - INTERVAL '24 hours'
GROUP BY endpoint
ORDER BY total_requests DESC;
"""
