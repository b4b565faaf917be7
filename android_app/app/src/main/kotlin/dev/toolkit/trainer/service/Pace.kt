package dev.toolkit.trainer.service

import dev.toolkit.trainer.engine.Progress

/** How long steps take: a mean that forgets, since phones become slower as they warm up. */
class Pace {
    private var last = -1L

    @Volatile var seconds: Double? = null
        private set

    fun add(progress: Progress) {
        // The first one of an opened engine tells of no step, or of one that was counted.
        val fresh = last >= 0 && progress.step > last
        last = progress.step
        if (!fresh || progress.seconds <= 0) return
        seconds = seconds?.let { it + (progress.seconds - it) * WEIGHT } ?: progress.seconds
    }

    private companion object {
        const val WEIGHT = 0.1
    }
}
