"""Run every benchmark and print its table."""

import asyncio

from benchmarks import batching, models, request, stream

asyncio.run(batching.main())
models.main()
request.main()
stream.main()
