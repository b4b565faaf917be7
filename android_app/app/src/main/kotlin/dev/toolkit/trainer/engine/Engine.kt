package dev.toolkit.trainer.engine

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import java.io.File
import org.json.JSONObject

/**
 * The engine that this APK carries: in the app's process where it was built with the NDK, else as a child process.
 * An APK without either still opens and says so. Found at first use, off the main thread if that is elsewhere.
 */
object Engine {
    private class Found(val host: EngineHost?, val problem: String)

    @Volatile private var found: Lazy<Found> = lazy { find(null) }

    /** Tells where the installer put the APK's libraries. */
    fun attach(libraries: File?) {
        found = lazy { find(libraries) }
    }

    val available: Boolean get() = found.value.host != null

    /** Whether it runs in a process of its own. */
    val isChild: Boolean get() = found.value.host?.isChild == true

    /** See [EngineHost.info]. */
    fun info(): JSONObject = host().info()

    /** See [EngineHost.dryRun]. */
    fun dryRun(options: Map<String, String>, begun: (() -> Unit) -> Unit = {}): JSONObject = host().dryRun(options, begun)

    /** See [EngineHost.open]. */
    fun open(options: Map<String, String>): Trainer = host().open(options)

    /** See [EngineHost.generator]. */
    fun generator(options: Map<String, String>): Generator = host().generator(options)

    private fun host(): EngineHost = found.value.run {
        host ?: throw EngineException(Words.of(R.string.engine_none, problem).toByteArray(), 1)
    }

    private fun find(libraries: File?): Found =
        try {
            System.loadLibrary("toolkit_jni")
            Found(NativeHost(), "")
        } catch (error: UnsatisfiedLinkError) {
            if (libraries != null && ChildHost.isIn(libraries)) Found(ChildHost(libraries), "")
            else Found(null, error.message ?: Words.of(R.string.engine_not_loaded))
        }
}
