package dev.toolkit.trainer

import android.app.Activity
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.EditText
import android.widget.RadioButton
import android.widget.Spinner
import android.widget.TextView
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Pictures.text
import dev.toolkit.trainer.service.Refusal
import dev.toolkit.trainer.service.Trial
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Cost
import dev.toolkit.trainer.store.Estimates
import dev.toolkit.trainer.store.Preset
import dev.toolkit.trainer.store.Presets
import dev.toolkit.trainer.store.RunSettings
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.ui.Changed
import dev.toolkit.trainer.ui.MainActivity
import dev.toolkit.trainer.ui.NewRunActivity
import dev.toolkit.trainer.ui.Numbers
import dev.toolkit.trainer.ui.RunActivity
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
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
import java.util.Locale
import java.util.concurrent.CountDownLatch

/** The little that a person has to say before a run, and what is told about it. */
@RunWith(RobolectricTestRunner::class)
class NewRunTest {
    @get:Rule val temporary = TemporaryFolder()

    private fun form(app: TrainerApp): Activity {
        val screen = Robolectric.buildActivity(NewRunActivity::class.java, NewRunActivity.intent(app, "tiny", "rows")).setup().get()
        await("the form") { text(screen, "times through the text") }
        return screen
    }

    private fun Activity.steps() = requireViewById<EditText>(R.id.steps).text.toString()

    @Test
    fun `how thoroughly decides the steps`() {
        val screen = form(Fixtures.deploy(temporary))
        assertFalse("folded", screen.requireViewById<View>(R.id.expert_fields).isShown)
        // Twelve sequences, one a step.
        for ((choice, steps) in listOf(R.id.light to "12", R.id.thorough to "96", R.id.normal to "36")) {
            screen.requireViewById<RadioButton>(choice).performClick()
            assertEquals(steps, screen.steps())
        }
    }

    /** Bytes that a text says are taken of memory. */
    private fun memory(text: String): Double {
        val (number, unit) = Regex("takes ([0-9.]+)\u00a0(\\w+) of memory").find(text)!!.destructured
        return number.toDouble() * mapOf("kB" to 1e3, "MB" to 1e6, "GB" to 1e9).getValue(unit)
    }

    private fun Activity.estimate() = requireViewById<TextView>(R.id.estimate).text.toString()

    @Test
    fun `memory and storage are told before anything is tried, and again when the settings change`() {
        val app = Fixtures.deploy(temporary)
        val screen = form(app)
        await("the engine's answer") { text(screen, "of memory") && text(screen, "of storage") }
        assertTrue("not how long", text(screen, "not known yet") && screen.requireViewById<View>(R.id.measure).isEnabled)
        val bundle = app.bundles.require("tiny")
        val shown = { steps: Int, together: Int, optimizer: String ->
            val settings = Presets.settings(Preset.NORMAL, app.data.require("rows"))
                .copy(steps = steps, gradientAccumulation = together, optimizer = optimizer, trace = RunSettings(steps).trace)
            val needs = app.controller.needs(bundle, app.data.require("rows"), settings)
            listOf(needs.peakBytes, needs.storageBytes + Estimates.traceBytes(settings)).map { Numbers.bytes(it) }
        }
        // Memory is this process's, the app's with the engine in it, and grows with all that the tests do; storage is the run's alone.
        assertTrue(screen.estimate(), shown(36, 1, "adamw")[1] in screen.estimate())
        val read = listen(screen.requireViewById(R.id.estimate))
        for (keys in listOf("9", "90", "900", "9000")) screen.requireViewById<EditText>(R.id.steps).setText(keys)
        assertTrue("as it was until the next answer: ${screen.estimate()}", shown(36, 1, "adamw")[1] in screen.estimate())
        assertEquals("nothing is read out with every key", emptyList<String>(), read)
        await("the storage of a longer run") { shown(9000, 1, "adamw")[1] in screen.estimate() }
        screen.requireViewById<EditText>(R.id.accumulation).setText("400")
        assertEquals("the answer is, with the steps", 1, read.count { "9,000 steps" in it && shown(9000, 1, "adamw")[1] in it })
        val small = app.controller.needs(bundle, app.data.require("rows"), RunSettings(steps = 9000)).peakBytes
        val large = app.controller.needs(bundle, app.data.require("rows"), RunSettings(steps = 9000, gradientAccumulation = 400)).peakBytes
        assertTrue("$small, $large", large > small + 1_000_000)
        await("the memory of larger steps") { read.size > 1 && memory(screen.estimate()) in 0.8 * large..1.25 * large }
        screen.requireViewById<Spinner>(R.id.optimizer).setSelection(RunSettings.OPTIMIZERS.indexOf("sgd"))
        assertFalse("sgd keeps less", shown(9000, 400, "sgd")[1] == shown(9000, 400, "adamw")[1])
        await("the storage of another optimizer") { shown(9000, 400, "sgd")[1] in screen.estimate() }
        assertTrue("nothing is left of it", app.runs.list().isEmpty() && app.cacheDir.list().orEmpty().none { "trial" in it })
    }

    @Test
    fun `what cannot be trained is said before it is started`() {
        val app = Fixtures.deploy(temporary)
        File(app.bundles.require("tiny").folder, "programs.pte").run { writeBytes(readBytes().also { it.fill(0x55, 8, 200) }) }
        val screen = form(app)
        await("the reason") { text(screen, "programs.pte") }
    }

    @Test
    fun `two steps on trial tell what a run takes, and leave nothing`() {
        val app = Fixtures.deploy(temporary)
        val screen = form(app)
        assertTrue(text(screen, "not known yet"))
        screen.requireViewById<View>(R.id.measure).performClick()
        assertTrue(text(screen, "Trying two steps"))
        await("the figures") { text(screen, "of training") && text(screen, "of memory") }
        assertFalse(screen.requireViewById<View>(R.id.measure).isShown)
        assertFalse(File(app.cacheDir, "trial").exists())
        assertTrue(app.runs.list().isEmpty())
    }

    @Test
    fun `a trial measures steps as large as the run's, and smaller ones say nothing about them`() {
        val app = Fixtures.deploy(temporary)
        val screen = form(app)
        screen.requireViewById<EditText>(R.id.accumulation).setText("3")
        screen.requireViewById<View>(R.id.measure).performClick()
        await("the figures") { text(screen, "of training") }
        val length = app.data.require("rows").sequenceLength
        val measured = app.estimates.find(app.bundles.require("tiny"), length, 3)!!
        assertEquals(3, measured.sequences)
        assertEquals(measured, app.estimates.find(app.bundles.require("tiny"), length, 2))
        assertNull(app.estimates.find(app.bundles.require("tiny"), length, 4))
        // A smaller step that is measured later takes nothing away.
        Trial(app.controller, File(app.cacheDir, "trial"), app.estimates)
            .measure(app.bundles.require("tiny"), app.data.require("rows"), Fixtures.reference.copy(gradientAccumulation = 1))
        assertEquals(measured, app.estimates.find(app.bundles.require("tiny"), length, 3))
        assertEquals(1, app.estimates.find(app.bundles.require("tiny"), length, 1)!!.sequences)
    }

    @Test
    fun `that a run keeps the trial from beginning is said only as long as it does`() {
        val app = Fixtures.deploy(temporary)
        val controller = Robolectric.buildActivity(NewRunActivity::class.java, NewRunActivity.intent(app, "tiny", "rows")).setup()
        val screen = controller.get()
        await("the form") { text(screen, "times through the text") }
        Fixtures.create(app, "long", Fixtures.reference.copy(steps = 100_000))
        app.controller.start("long")
        await("the reason") { text(screen, "Run “long” is active") && !screen.requireViewById<View>(R.id.measure).isEnabled }
        app.controller.pause()
        await("the end of it") { screen.requireViewById<View>(R.id.measure).isEnabled && !text(screen, "Run “long” is active") }
        controller.close()
        assertTrue(app.controller.join(30_000))
    }

    @Test
    fun `a refused start is not said to be in the way of a run that has ended`() {
        val app = Fixtures.deploy(temporary)
        val screen = form(app)
        app.controller.start(Fixtures.create(app, "long", Fixtures.reference.copy(steps = 100_000)).name)
        screen.requireViewById<View>(R.id.start).performClick()
        val problem = screen.requireViewById<TextView>(R.id.problem)
        assertTrue(problem.text.toString(), "Run “long” is active" in problem.text)
        // The service's word, on the first screen and on the page of the run that was refused.
        Fixtures.create(app, "other")
        val error = assertThrows(AppException::class.java) { app.controller.start("other") }
        app.controller.refuse(Refusal("other", error.message!!, blocker = error.blocker))
        val list = Robolectric.buildActivity(MainActivity::class.java).setup()
        val page = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, "other")).setup()
        for (shown in listOf(list, page)) await("why") { text(shown.get(), "Run “long” is active. Pause it first") }
        app.controller.stop()
        assertTrue(app.controller.join(30_000))
        await("that it is gone") { !problem.isShown }
        for (shown in listOf(list, page)) await("why then") { text(shown.get(), "Run “long” was active then") && !text(shown.get(), "is active") }
        listOf(list, page).forEach { it.close() }
    }

    @Test
    fun `a large trial can be cancelled in the middle of a step`() {
        val app = Fixtures.deploy(temporary)
        val screen = form(app)
        val bundle = app.bundles.require("tiny")
        screen.requireViewById<EditText>(R.id.accumulation).setText("5000")
        val measure = screen.requireViewById<Button>(R.id.measure)
        measure.performClick()
        await("the trial") { File(app.cacheDir, "trial").isDirectory && text(screen, "Trying two steps") }
        assertEquals("Cancel the trial", measure.text.toString())
        Thread.sleep(300) // Into the first step, which takes seconds.
        assertTrue(app.trying.running)
        val from = System.nanoTime()
        measure.performClick()
        await("its end") { !app.trying.running }
        val took = (System.nanoTime() - from) / 1e9
        assertTrue("$took seconds", took < 2.5)
        assertNull("nothing was measured", app.estimates.find(bundle, app.data.require("rows").sequenceLength, 1))
        assertFalse(File(app.cacheDir, "trial").exists())
        assertEquals("Try two steps", measure.text.toString())
        assertTrue(text(screen, "not known yet"))
        assertFalse(screen.requireViewById<View>(R.id.problem).isShown)
        // As before.
        screen.requireViewById<EditText>(R.id.accumulation).setText("1")
        measure.performClick()
        await("the figures") { text(screen, "of training") }
    }

    @Test
    fun `no run takes more than a battery`() {
        val app = Fixtures.deploy(temporary)
        val cost = Cost(secondsPerSequence = 1.0, sequences = 1)
        val shares = listOf(3_600, 36_000).map {
            val settings = Fixtures.reference.copy(steps = it, gradientAccumulation = 1)
            Estimates.of(settings, app.data.require("rows"), cost).batteryPercent
        }
        assertEquals(listOf(15..35, 100..100), shares)
    }

    @Test
    fun `a trial keeps no run from starting`() {
        val app = Fixtures.deploy(temporary)
        val screen = form(app)
        val over = CountDownLatch(1)
        app.trying.begin { over.await().let { "" } }
        screen.requireViewById<View>(R.id.start).performClick()
        await("the run") { screen.isFinishing && app.runs.find("run") != null }
        over.countDown()
        await("the trial") { !app.trying.running }
    }

    @Test
    fun `what is wrong is said at its field`() {
        val app = Fixtures.deploy(temporary)
        val screen = form(app)
        for ((id, wrong, right) in listOf(
            Triple(R.id.steps, "many", "3"), Triple(R.id.rate, "2", "1e-4"), Triple(R.id.accumulation, "0", "1"), Triple(R.id.name, "../a", "a"),
        )) {
            val field = screen.requireViewById<EditText>(id)
            field.setText(wrong)
            screen.requireViewById<View>(R.id.start).performClick()
            await("the error at $wrong") { field.error != null }
            assertTrue(field.isShown)
            assertEquals(field.error.toString(), screen.requireViewById<TextView>(R.id.problem).text.toString())
            val spoken = field.createAccessibilityNodeInfo()
            assertEquals("TalkBack reads it with the field", true to field.error.toString(), spoken.isContentInvalid to spoken.error?.toString())
            field.setText(right)
        }
        assertTrue(app.runs.list().isEmpty())
        screen.requireViewById<View>(R.id.start).performClick()
        await("the run") { screen.isFinishing }
        assertEquals(3, app.runs.require("a").settings.steps)
    }

    @Test
    fun `numbers are written in plain digits and read in those of any language`() {
        val app = Fixtures.deploy(temporary)
        RuntimeEnvironment.setQualifiers("ar-rEG-ldrtl")
        Locale.setDefault(Locale("ar", "EG"))
        try {
            val screen = form(app)
            assertTrue("a sentence has the language's own", text(screen, "\u0663\u0666 steps"))
            val fields = listOf(R.id.steps, R.id.rate, R.id.accumulation).map { screen.requireViewById<EditText>(it) }
            assertEquals(listOf("36", "2e-4", "1"), fields.map { it.text.toString() })
            for ((field, text) in fields.zip(listOf("\u0663", "\u0662\u066b\u0665e\u2212\u0664", "\u06f2"))) field.setText(text)
            screen.requireViewById<View>(R.id.start).performClick()
            await("the run") { screen.isFinishing }
            val settings = app.runs.list().single().settings
            assertEquals(Triple(3, 2.5e-4, 2), Triple(settings.steps, settings.learningRate, settings.gradientAccumulation))
        } finally {
            Locale.setDefault(Locale.US)
        }
    }

    @Test
    fun `a grey button says why`() {
        val app = Fixtures.deploy(temporary)
        val screen = form(app)
        val measure = screen.requireViewById<Button>(R.id.measure)
        assertTrue(measure.isEnabled)
        app.controller.start(Fixtures.create(app, "long", Fixtures.reference.copy(steps = 100_000)).name)
        screen.requireViewById<View>(R.id.light).performClick()
        assertFalse(measure.isEnabled)
        assertTrue(text(screen, "Run “long” is active. Pause it first") && "Try two steps. Run “long”" in measure.contentDescription)
        app.controller.stop()
        assertTrue(app.controller.join(30_000))
        File(Fixtures.deployed(), "data").deleteRecursively()
        val empty = Robolectric.buildActivity(NewRunActivity::class.java).setup().get()
        val start = empty.requireViewById<Button>(R.id.start)
        await("the reason") { text(empty, "Make training data for this model first.") }
        assertFalse(start.isEnabled)
        assertEquals("Start training. Make training data for this model first.", start.contentDescription)
    }

    /** What TalkBack reads of a view: its text whenever that changes, if it is of this kind. */
    private fun listen(view: TextView): List<String> {
        val said = ArrayList<String>()
        view.addTextChangedListener(Changed { if (view.accessibilityLiveRegion == View.ACCESSIBILITY_LIVE_REGION_POLITE) said.add(view.text.toString()) })
        return said
    }

    @Test
    fun `every quarter of a run is announced once, on its page and on its card`() {
        val app = Fixtures.deploy(temporary)
        Fixtures.create(app, "a", Fixtures.reference.copy(steps = 400))
        val page = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, "a")).setup().get()
        val list = Robolectric.buildActivity(MainActivity::class.java).setup().get()
        await("the card") { list.requireViewById<ViewGroup>(R.id.runs).childCount == 1 }
        val card = listen(list.requireViewById<ViewGroup>(R.id.runs).getChildAt(0).requireViewById(R.id.status))
        val said = listen(page.requireViewById(R.id.status))
        app.controller.start("a")
        await("the end") { said.lastOrNull().orEmpty().startsWith("Completed") && text(list, "Completed") }
        for (words in listOf(said, card)) {
            assertEquals(listOf(25, 50, 75).map { "Training, $it\u00a0% are done" }, words.filter { "done" in it })
        }
    }

    @Test
    fun `a wide window shows a run beside the list`() {
        val app = Fixtures.deploy(temporary)
        for ((index, name) in listOf("first", "second").withIndex()) {
            app.runs.save(Fixtures.create(app, name).copy(created = index.toLong(), state = RunState.PAUSED))
        }
        RuntimeEnvironment.setQualifiers("w960dp-h600dp-land-mdpi")
        val controller = Robolectric.buildActivity(MainActivity::class.java).setup()
        val screen = controller.get()
        val title = { controller.get().requireViewById<TextView>(R.id.run_name).text.toString() }
        await("the newest") { title() == "second" && screen.requireViewById<View>(R.id.detail).isShown }
        await("the cards") { screen.requireViewById<ViewGroup>(R.id.runs).childCount == 2 }
        screen.requireViewById<ViewGroup>(R.id.runs).getChildAt(1).performClick()
        await("the other one") { title() == "first" }
        assertNull("no screen of its own", shadowOf(screen).nextStartedActivity)
        controller.recreate()
        await("the same again") { title() == "first" }
        shadowOf(controller.get()).clickMenuItem(R.id.rename)
        (org.robolectric.shadows.ShadowDialog.getLatestDialog() as android.app.AlertDialog).run {
            requireViewById<EditText>(R.id.new_name).setText("renamed")
            getButton(android.app.AlertDialog.BUTTON_POSITIVE).performClick()
        }
        await("its new name, still beside the list") { title() == "renamed" }
        app.runs.rename("renamed", "first")
        controller.recreate()
        await("the newest, for the chosen one is gone") { title() == "second" }
        await("the cards") { controller.get().requireViewById<ViewGroup>(R.id.runs).childCount == 2 }
        controller.get().requireViewById<ViewGroup>(R.id.runs).getChildAt(1).performClick()
        await("the other one") { title() == "first" }
        // Asked by the card of one, beside the page of the other: a turned phone deletes the first and shows the other on.
        Fixtures.create(app, "third").let { app.runs.save(it.copy(created = 9, state = RunState.COMPLETED)) }
        controller.recreate()
        await("three cards") { controller.get().requireViewById<ViewGroup>(R.id.runs).childCount == 3 && title() == "first" }
        controller.get().requireViewById<ViewGroup>(R.id.runs).getChildAt(0).requireViewById<View>(R.id.delete_run).performClick()
        controller.recreate()
        await("the question again") { (org.robolectric.shadows.ShadowDialog.getLatestDialog() as android.app.AlertDialog).isShowing }
        (org.robolectric.shadows.ShadowDialog.getLatestDialog() as android.app.AlertDialog).getButton(android.app.AlertDialog.BUTTON_POSITIVE).performClick()
        await("that it is gone") { app.runs.find("third") == null && controller.get().requireViewById<ViewGroup>(R.id.runs).childCount == 2 }
        assertEquals("first", title())
        shadowOf(controller.get()).clickMenuItem(R.id.delete)
        val dialog = org.robolectric.shadows.ShadowDialog.getLatestDialog() as android.app.AlertDialog
        dialog.getButton(android.app.AlertDialog.BUTTON_POSITIVE).performClick()
        await("what is left") { title() == "second" && app.runs.find("first") == null }
        assertEquals("Start", controller.get().requireViewById<Button>(R.id.primary).text.toString())
        controller.close()
    }
}
