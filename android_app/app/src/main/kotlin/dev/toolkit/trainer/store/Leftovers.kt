package dev.toolkit.trainer.store

import android.content.Context
import java.io.File

/** Name of the folder among the cached ones where a run is tried. */
const val TRIAL = "trial"

/** And where an adapter is that is asked something. */
const val ASKED = "asked"

/** What was half done when the app was ended: it would keep its storage for ever. */
class Leftovers(context: Context) {
    private val own = context.filesDir
    private val caches = context.cacheDir

    /** Deletes what was left before [began], in milliseconds of the clock; what this process makes is younger. */
    fun clear(began: Long) {
        val parts = listOf("bundles", "data").flatMap { File(own, it).listFiles().orEmpty().toList() }.filter { it.name.endsWith(PART) }
        for (left in parts + File(caches, TRIAL) + File(caches, ASKED)) if (left.lastModified() < began) left.deleteTree()
    }

    companion object {
        /** End of the name of a folder that is not complete yet. */
        const val PART = ".part"
    }
}
