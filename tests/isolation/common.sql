-- What belongs to no organization, and the place from which everything is tried.
insert into auth.users (id, email) values ('cccccccc-0000-4000-8000-000000000009', 'operator@aurora.example');
insert into users (organization_id, auth_id, email, name, role)
values (null, 'cccccccc-0000-4000-8000-000000000009', 'operator@aurora.example', 'Operator', 'owner');
insert into app.clock (shift) values ('0');
