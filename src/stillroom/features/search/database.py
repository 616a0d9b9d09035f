"""Access to the rows of the search index. SQLAlchemy is imported on the first use."""

from typing import TYPE_CHECKING

from stillroom.features.database.database import RowsOf, rows_of

if TYPE_CHECKING:
    from stillroom.features.search.comparison_rows import ComparisonRows
    from stillroom.features.search.count_rows import CountRows
    from stillroom.features.search.rows import SearchRows

search_rows: "RowsOf[SearchRows]" = rows_of("stillroom.features.search.rows.SearchRows")
count_rows: "RowsOf[CountRows]" = rows_of("stillroom.features.search.count_rows.CountRows")
comparison_rows: "RowsOf[ComparisonRows]" = rows_of(
    "stillroom.features.search.comparison_rows.ComparisonRows"
)
