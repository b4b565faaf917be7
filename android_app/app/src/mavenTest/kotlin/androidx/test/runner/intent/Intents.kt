package androidx.test.runner.intent

import android.content.Intent

fun interface IntentCallback {
    fun onIntentSent(intent: Intent)
}

interface IntentMonitor {
    fun addIntentCallback(callback: IntentCallback)

    fun removeIntentCallback(callback: IntentCallback)
}

object IntentMonitorRegistry {
    @JvmStatic
    fun registerInstance(@Suppress("UNUSED_PARAMETER") monitor: IntentMonitor) = Unit
}

object IntentStubberRegistry {
    @JvmStatic fun isLoaded(): Boolean = false

    @JvmStatic fun reset() = Unit
}
