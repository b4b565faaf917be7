package dev.toolkit.trainer

import android.app.Activity
import android.app.ActivityManager
import android.content.Intent
import android.content.res.Configuration
import android.graphics.Bitmap
import android.graphics.Canvas
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.EditText
import android.widget.ImageButton
import android.widget.ScrollView
import android.widget.Spinner
import android.widget.Switch
import android.widget.TextView
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.ui.MainActivity
import dev.toolkit.trainer.ui.NewRunActivity
import dev.toolkit.trainer.ui.RunActivity
import dev.toolkit.trainer.ui.SettingsActivity
import dev.toolkit.trainer.ui.TextActivity
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import java.io.File
import kotlin.math.exp
import kotlin.math.sin

/** Every screen, in both themes, two sizes and a large font: pictures to look at, and what can be checked without eyes. */
@RunWith(RobolectricTestRunner::class)
class ScreensTest {
    @get:Rule val temporary = TemporaryFolder()
    private val target = File(System.getProperty("toolkit.screenshots")!!)

    private data class Look(val name: String, val qualifiers: String, val fontScale: Float)

    private val looks = listOf(
        Look("phone-light", "w360dp-h640dp-notnight-xhdpi", 1f),
        Look("phone-dark", "w360dp-h640dp-night-xhdpi", 1f),
        Look("tablet-light", "w800dp-h1280dp-notnight-mdpi", 1f),
        Look("tablet-dark", "w800dp-h1280dp-night-mdpi", 1f),
        Look("phone-large-font", "w360dp-h640dp-notnight-xhdpi", 2f),
    )

    @Test
    fun `screens with content`() {
        val app = Fixtures.deploy(temporary)
        val memory = ActivityManager.MemoryInfo()
        memory.availMem = 412_000L shl 10
        memory.totalMem = 7_700_000L shl 10
        shadowOf(app.getSystemService(ActivityManager::class.java)).setMemoryInfo(memory)
        fill(app)
        for (look in looks) {
            apply(look)
            picture(look, "runs", MainActivity::class.java, null) { text(it, "smollm2-chat") && text(it, "tiny-words") }
            picture(look, "run", RunActivity::class.java, RunActivity.intent(app, "smollm2-chat")) { text(it, "Peak memory") }
            picture(look, "run-failed", RunActivity::class.java, RunActivity.intent(app, "diary")) { text(it, "Failed") }
            picture(look, "new-run", NewRunActivity::class.java, NewRunActivity.intent(app, "words", "my-letters")) { text(it, "my-letters") }
            picture(look, "text", TextActivity::class.java, null) { text(it, "my-letters") }
            picture(look, "settings", SettingsActivity::class.java, null) { text(it, "Only while charging") }
        }
    }

    @Test
    fun `screens of an empty phone`() {
        Fixtures.deploy(temporary, emptyList())
        File(Fixtures.deployed(), "data").deleteRecursively()
        for (look in looks) {
            apply(look)
            picture(look, "runs-empty", MainActivity::class.java, null) { text(it, "No runs yet") }
            picture(look, "new-run-empty", NewRunActivity::class.java, null) { text(it, "no model") }
            picture(look, "text-empty", TextActivity::class.java, null) { text(it, "no model with a tokenizer") }
        }
    }

    @Test
    fun `starting, rotating and stopping from the screen`() {
        val app = Fixtures.deploy(temporary)
        Fixtures.create(app, "a", Fixtures.reference.copy(steps = 100_000))
        val screen = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, "a")).setup()
        await("the page") { screen.get().requireViewById<Button>(R.id.primary).text == "Start" }
        repeat(2) { screen.get().requireViewById<Button>(R.id.primary).performClick() }
        val service = Robolectric.buildService(TrainingService::class.java).create()
        generateSequence { shadowOf(app).nextStartedService }.forEach { service.get().onStartCommand(it, 0, 1) }
        await("a step") { (app.controller.active?.progress?.step ?: 0) > 1 }
        screen.recreate()
        await("the page again") { screen.get().requireViewById<Button>(R.id.primary).text == "Pause" }
        await("the curve") { screen.get().requireViewById<View>(R.id.loss).contentDescription.startsWith("Loss curve") }
        screen.get().requireViewById<Button>(R.id.stop).performClick()
        generateSequence { shadowOf(app).nextStartedService }.forEach { service.get().onStartCommand(it, 0, 1) }
        await("the end") { app.controller.active == null }
        await("the page at the end") { text(screen.get().window.decorView, "Stopped early") }
        assertEquals(RunState.STOPPED, app.runs.require("a").state)
        screen.close()
        service.destroy()
    }

    @Test
    fun `text becomes data and leads to a new run, errors stay on the screen`() {
        val app = Fixtures.deploy(temporary)
        val screen = Robolectric.buildActivity(TextActivity::class.java).setup()
        await("the models") { screen.get().requireViewById<Spinner>(R.id.bundle).count == 1 }
        val make = screen.get().requireViewById<Button>(R.id.make)
        make.performClick()
        assertTrue(text(screen.get().window.decorView, "Write some text"))
        screen.get().requireViewById<EditText>(R.id.text).setText("hello there, how are you?")
        screen.get().requireViewById<EditText>(R.id.name).setText("../up")
        make.performClick()
        await("the refusal") { text(screen.get().window.decorView, "cannot name a data set") }
        screen.get().requireViewById<EditText>(R.id.name).setText("mine")
        make.performClick()
        make.performClick()
        await("the data") { app.data.find("mine") != null && screen.get().isFinishing }
        assertEquals(NewRunActivity::class.java.name, shadowOf(screen.get()).nextStartedActivity.component?.className)
        screen.close()
    }

    private fun fill(app: TrainerApp) {
        TextData(app.folders).make("my-letters", app.bundles.require("words"), listOf("hello there, how are you? ".repeat(60)))
        val running = Fixtures.create(app, "smollm2-chat", Fixtures.reference.copy(steps = 400, gradientAccumulation = 4))
        running.trace.writeText(trace(running, 260))
        running.adapter.writeBytes(ByteArray(10))
        app.runs.save(running.copy(state = RunState.PAUSED, step = 260))
        val failed = Fixtures.create(app, "diary")
        failed.trace.writeText(trace(failed, 1))
        val reason = "cannot write trace.jsonl: No space left on device (the state of step 1 is kept)"
        app.runs.save(failed.copy(state = RunState.FAILED, reason = reason, step = 1, created = 2))
        val completed = Fixtures.create(app, "letters-to-grandma")
        completed.trace.writeText(trace(completed, 8))
        app.runs.save(completed.copy(state = RunState.COMPLETED, step = 8, created = 1))
    }

    /** A trace as the engine writes it, with a curve that looks like one. */
    private fun trace(run: Run, steps: Int): String = buildString {
        append("""{"type":"run","version":1,"bundle":{"adapter_parameters":2442240},"device":{"memory_available_kib":412000}}""").append('\n')
        for (step in 1..steps) {
            val loss = 1.9 + 1.4 * exp(-step / 60.0) + 0.12 * sin(step * 1.7) * exp(-step / 200.0)
            val peak = 138_000 + (2500 * sin(step * 0.9)).toInt() + if (step == 120) 21_000 else 0
            append("""{"type":"step","step":$step,"t":${step * 1_600_000_000L},"seconds":1.6,"loss":$loss,"tokens":1010,"peak":$peak}""").append('\n')
            if (step == 90) append("""{"type":"event","t":1,"event":"paused","detail":"Battery at 18 %, goes on at 25 %"}""").append('\n')
        }
        if (steps > 100) append("""{"type":"event","t":2,"event":"paused","detail":"by the user"}""").append('\n')
        check(run.name.isNotEmpty())
    }

    private fun apply(look: Look) {
        RuntimeEnvironment.setQualifiers(look.qualifiers)
        RuntimeEnvironment.setFontScale(look.fontScale)
    }

    private fun picture(look: Look, name: String, screen: Class<out Activity>, intent: Intent?, ready: (View) -> Boolean) {
        val controller = Robolectric.buildActivity(screen, intent).setup()
        val root = controller.get().window.decorView
        await("$name ${look.name}") { ready(root) }
        save(root, "$name-${look.name}")
        check(look, name, root)
        val scroll = find(root, ScrollView::class.java).firstOrNull()
        if (scroll != null && scroll.canScrollVertically(1)) {
            scroll.scrollTo(0, Int.MAX_VALUE / 2)
            Fixtures.idle()
            save(root, "$name-${look.name}-end")
        }
        controller.close()
    }

    private fun save(root: View, name: String) {
        val bitmap = Bitmap.createBitmap(root.width, root.height, Bitmap.Config.ARGB_8888)
        root.draw(Canvas(bitmap))
        target.mkdirs()
        File(target, "$name.png").outputStream().use { bitmap.compress(Bitmap.CompressFormat.PNG, 100, it) }
    }

    /** What a designer and TalkBack would object to, as far as it can be computed. */
    private fun check(look: Look, screen: String, root: View) {
        val touch = (48 * root.resources.displayMetrics.density).toInt()
        for (view in all(root).filter { it.isShown && it.width > 0 }) {
            val where = "$screen ${look.name}: ${describe(view)}"
            if (view.isClickable && (view is Button || view is ImageButton || view is Spinner || view is EditText)) {
                assertTrue("$where is ${view.width} x ${view.height}", view.height >= touch && view.width >= touch)
            }
            if (view is ImageButton) assertFalse("$where says nothing", view.contentDescription.isNullOrEmpty())
            if (view is TextView && view.text.isNotEmpty() && view !is EditText) {
                val layout = view.layout
                assertNotNull(where, layout)
                val cut = (0 until layout.lineCount).any { layout.getEllipsisCount(it) > 0 }
                assertFalse("$where is cut off", cut)
                assertTrue("$where does not fit", layout.height + view.compoundPaddingTop + view.compoundPaddingBottom <= view.height + 1)
            }
        }
        assertEquals(look.fontScale, root.resources.configuration.fontScale, 0.01f)
        val night = root.resources.configuration.uiMode and Configuration.UI_MODE_NIGHT_MASK
        assertEquals("dark" in look.name, night == Configuration.UI_MODE_NIGHT_YES)
        assertTrue(find(root, Switch::class.java).all { it.text.isNotEmpty() })
    }

    private fun describe(view: View): String {
        val id = if (view.id > 0) runCatching { view.resources.getResourceEntryName(view.id) }.getOrDefault("?") else "?"
        return "${view.javaClass.simpleName} $id" + if (view is TextView) " “${view.text.take(30)}”" else ""
    }

    private fun text(root: View, words: String): Boolean =
        all(root).any { it is TextView && it.isShown && words in it.text.toString() }

    private fun all(view: View): List<View> =
        if (view is ViewGroup) listOf(view) + (0 until view.childCount).flatMap { all(view.getChildAt(it)) } else listOf(view)

    private fun <T : View> find(root: View, type: Class<T>): List<T> = all(root).filterIsInstance(type)
}
