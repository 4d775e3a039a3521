-- The room invoices: nobody but the platform writes them, and no client reads the seller's tables.
begin;
select plan(17);

select table_privs_are('public', 'invoices', 'tenant', array['SELECT']);
select table_privs_are('public', 'invoices', 'authenticated', array['SELECT']);
select table_privs_are('public', 'invoice_counters', 'authenticated', array[]::text[]);
select table_privs_are('public', 'legal_entities', 'tenant', array[]::text[]);
select has_trigger('public', 'invoices', 'invoices_protect_issued', 'issued invoices are protected');

select table_privs_are('public', 'credit_notes', 'tenant', array['SELECT']);
select table_privs_are('public', 'allocations', 'authenticated', array['SELECT']);
select table_privs_are('public', 'exchange_rates', 'authenticated', array[]::text[]);
select has_trigger('public', 'credit_notes', 'credit_notes_protect_issued', 'credit notes are protected');
select is(app.padded(1234567), '1234567', 'the millionth number is not cut to six digits');

select table_privs_are('public', 'billed_months', 'tenant', array[]::text[]);
select has_trigger('public', 'subscription_adjustments', 'subscription_adjustments_settle_credit', 'what a change gives back is credited');
select has_trigger('public', 'subscription_adjustments', 'subscription_adjustments_charge_at_once', 'what a change asks for is invoiced');
select table_privs_are('public', 'overdue_steps', 'tenant', array[]::text[]);
select has_trigger('public', 'organizations', 'organizations_keep_suspended', 'a suspension for what is owed stays');
select is((app.overdue_policy_on('2026-12-01')).suspend_days, 45, 'there is a policy');
select is(app.credit_reason('change', 'nb'), 'Abonnementet er endret', 'a credit note says why in the invoice''s language');

select * from finish();
rollback;
