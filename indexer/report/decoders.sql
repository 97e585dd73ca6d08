-- Which decoders made the rows of the window.
SELECT venue, array_agg(DISTINCT decoder_version ORDER BY decoder_version) AS versions
FROM counted
GROUP BY venue
ORDER BY venue
