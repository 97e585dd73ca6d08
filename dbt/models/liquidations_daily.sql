select
    venue,
    (block_at at time zone 'UTC')::date as day,
    count(*) as liquidations,
    count(distinct account) as accounts,
    sum(notional_usd) as notional_usd,
    count(*) - count(notional_usd) as unpriced
from {{ source('liq', 'liquidations') }}
where not account_is_protocol_vault
group by 1, 2
