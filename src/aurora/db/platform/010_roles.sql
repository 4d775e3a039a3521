-- Roles: who may act. They belong to the cluster, so they are only ever added, never altered back.
-- Supabase has the first three already; elsewhere they are made here.

do $$
declare
  v_role text;
begin
  foreach v_role in array array['anon', 'authenticated', 'service_role', 'tenant', 'aurora_app'] loop
    begin
      if not exists (select from pg_catalog.pg_roles where rolname = v_role) then
        execute format(
          'create role %I noinherit %s', v_role,
          case when v_role = 'aurora_app' then 'login' else 'nologin' end
        );
      end if;
    exception
      -- Two databases of one cluster may be migrated at the same moment.
      when duplicate_object or unique_violation then null;
    end;
  end loop;
end
$$;

-- aurora_app is what the application logs in as: by itself it may do nothing, and each transaction
-- says with SET LOCAL ROLE who acts. The owner who migrates may assume the same roles.
do $$
declare
  v_role text;
  v_member text;
begin
  foreach v_role in array array['anon', 'authenticated', 'service_role', 'tenant'] loop
    foreach v_member in array array['aurora_app', current_user] loop
      if v_member <> v_role
        and not exists (
          select from pg_catalog.pg_auth_members m
          where m.roleid = v_role::regrole and m.member = v_member::regrole
        )
        and not (select rolsuper from pg_catalog.pg_roles where rolname = v_member)
      then
        begin
          execute format('grant %I to %I', v_role, v_member);
        exception
          when unique_violation or insufficient_privilege then
            raise notice 'role % was not granted to %', v_role, v_member;
        end;
      end if;
    end loop;
  end loop;
end
$$;

revoke create on schema public from public;
grant usage on schema public to authenticated, service_role, tenant;
