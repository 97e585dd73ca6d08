"""docs/schema.md against the schema that the migrations make."""

import pytest

from indexer.store.database import Connection
from tests import schema_page

MADE = "CREATE VIEW liq.mine AS SELECT 1 AS one"


def test_the_page_of_the_schema_is_what_the_database_says(connection: Connection) -> None:
    made = schema_page.page(connection)

    assert schema_page.PAGE.read_text("utf-8") == made, schema_page.REMEDY


def test_a_view_that_no_group_names_has_no_page(connection: Connection) -> None:
    connection.execute(MADE)
    connection.execute("COMMENT ON VIEW liq.mine IS 'Mine.'")
    connection.execute("COMMENT ON COLUMN liq.mine.one IS 'One.'")

    with pytest.raises(ValueError, match=r"look at \['mine'\]"):
        schema_page.page(connection)
