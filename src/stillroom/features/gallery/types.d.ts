// Types that several of the gallery's scripts name in their comments. Only the type check reads this file.

type Api = import("./static/api.js").Api;
type Facts = import("./static/api.js").Facts;
type Shape = import("./static/api.js").Shape;
type Folder = import("./static/listing.js").Folder;
type Found = import("./static/finding.js").Found;
type Library = import("./static/listing.js").Library;
type Collection = Folder | Found | Library;
type Described = import("./static/listing.js").Described;
type Resource = import("./static/listing.js").Resource;
type Place = import("./static/router.js").Place;
type Run = import("./static/runs.js").Run;
type Row = import("./static/shelves.js").Row;
type FolderShelf = import("./static/shelves.js").FolderShelf;
type LibraryShelf = import("./static/shelves.js").LibraryShelf;
type Shelf = FolderShelf | LibraryShelf;
type Failed = import("./static/thumbnails.js").Failed;
type Tree = import("./static/trees.js").Tree;
type Work = import("./static/work.js").Work;
type App = import("./static/app.js").App;
