-- The room invoices: nobody but the platform writes them, and no client reads the seller's tables.
begin;
select plan(5);

select table_privs_are('public', 'invoices', 'tenant', array['SELECT']);
select table_privs_are('public', 'invoices', 'authenticated', array['SELECT']);
select table_privs_are('public', 'invoice_counters', 'authenticated', array[]::text[]);
select table_privs_are('public', 'legal_entities', 'tenant', array[]::text[]);
select has_trigger('public', 'invoices', 'invoices_protect_issued', 'issued invoices are protected');

select * from finish();
rollback;
