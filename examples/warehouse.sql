-- The customers of a small shop, as `consentd demo --warehouse` puts them into a SQLite database.
-- Three columns say what each of them agreed to; NULL means that nobody asked.

drop table if exists customers;

create table customers (
    id         integer primary key,
    email      text,
    plan       text,
    signed_up  date,
    ads        boolean,
    analytics  boolean,
    sharing    boolean
);

insert into customers values
    (1, 'ann@example.com',  'pro',  '2024-02-11', true,  true,  true),
    (2, 'ben@example.com',  'free', '2024-03-05', false, true,  null),
    (3, 'cleo@example.com', 'free', '2024-03-19', null,  null,  null),
    (4, 'dan@example.com',  'team', '2024-05-02', true,  true,  false),
    (5, 'eve@example.com',  'pro',  '2024-06-23', false, false, false),
    (6, 'fay@example.com',  null,   '2024-09-30', true,  null,  true);
