package dev.toolkit.trainer.policy

private const val DAY = 24 * 60

/**
 * Hours of every day, in minutes since midnight: [from] belongs to them, [to] does not. They may go over midnight; from one
 * minute to the same is all day.
 */
data class Hours(val from: Int, val to: Int) {
    fun include(minute: Int): Boolean = if (from < to) minute in from until to else minute >= from || minute < to

    /**
     * Returns how many minutes from [minute] on it is until [work] minutes of these hours have gone by: when a run that
     * trains in them only will have ended.
     */
    fun until(minute: Int, work: Long): Long {
        val length = Math.floorMod(to - from, DAY)
        if (length == 0) return work
        val begin = if (include(minute)) 0 else Math.floorMod(from - minute, DAY)
        val left = if (include(minute)) Math.floorMod(to - minute, DAY) else length
        if (work <= left) return begin + work
        // Whole days, but for one that ends with its hours.
        val beyond = work - left
        val days = (beyond - 1) / length
        val sinceFrom = Math.floorMod(minute + begin + left - from, DAY)
        return begin + left + (DAY - sinceFrom) + days * DAY + (beyond - days * length)
    }
}
